"""The `flaxmobile` command: list, summary, predict."""
