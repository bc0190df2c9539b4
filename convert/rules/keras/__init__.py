"""Keras: the names of the layers of `keras.applications`, one module per network."""
