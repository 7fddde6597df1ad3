"""Building ONNX graphs: small pieces in ONNX text with weights, chained into one model."""
