"""Which images there are and which split each belongs to."""
