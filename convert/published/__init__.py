"""Weights that others publish, by name: found in a table, fetched once, verified, converted."""
