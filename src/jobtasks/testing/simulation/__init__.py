"""A seeded simulation: store, manager, agents, network and clocks in one thread, with faults.

What is real: the service on SQLite, the manager's tick, the agent's reconciler and order book, the
messages. What is played: time, the network, processes, machines, the disk of the server. A seed
decides everything; `World(seed).run()` raises `Violation` when a promise is broken.
"""
