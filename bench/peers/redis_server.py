"""A Redis server for the queues that need one: on the loopback, without persistence."""

from __future__ import annotations

from bench.peers.base import Adapter, free_port, program, wait_for_port


def start(peer: Adapter) -> str:
    """Start it for a peer; return its address, without the number of a database."""
    port = free_port()
    server = program("redis-server", package="redis-server")
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    peer.spawn("redis", [server, *words, "--dir", str(peer.folder)])
    wait_for_port(port)
    return f"redis://127.0.0.1:{port}"
