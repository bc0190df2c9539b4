"""LiteRT (TFLite) files, through litert-converter and without TensorFlow."""
