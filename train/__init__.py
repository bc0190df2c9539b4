"""Training with one command: `python -m train`."""

PROG = "python -m train"
"""The command, as its messages name it."""
