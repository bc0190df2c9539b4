"""Authors' repositories: the names of their state dicts, one module per network."""
