"""Foreign checkpoints in, ONNX files out."""
