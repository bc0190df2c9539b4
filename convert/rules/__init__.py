"""What each origin calls its tensors, one module per origin."""
