"""What every room rests on: threads, atomic files and ONNX Runtime sessions."""
