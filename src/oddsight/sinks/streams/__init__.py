"""Where the results of a stream go: events, frames, key frames, annotated video, the terminal, and other programs."""
