"""Training with one command: `python -m train`."""
