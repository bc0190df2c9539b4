"""MediaPipe: the names of the tensors in its TFLite files, one module per network."""
