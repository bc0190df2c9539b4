"""Formats: readers of the files that hold weights, one module per kind of file."""
