"""Import of foreign checkpoints and export of ONNX files."""
