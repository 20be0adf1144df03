"""Engines place agents on nodes, nothing else: placing one is a command line."""
