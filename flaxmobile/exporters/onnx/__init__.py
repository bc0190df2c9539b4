"""ONNX files, from the equations of a traced network."""
