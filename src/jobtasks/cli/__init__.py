"""The command line: one file per noun, text and JSON from the same values."""
