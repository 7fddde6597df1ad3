"""A trained model: its file, its metadata, its calibration, and what it says of an image."""
