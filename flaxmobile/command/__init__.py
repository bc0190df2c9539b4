"""Shared by all commands: flags, streams and exit status, options of a network."""
