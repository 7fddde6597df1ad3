"""What needs PyTorch: the ``train`` extra. Nothing here is imported by fitting and predicting with a finished file."""
