"""timm: the names of its state dicts, one module per network."""
