"""Runs task processes on one node: keeper, agent, sync with the server."""
