"""Images with masks: the class of every pixel."""
