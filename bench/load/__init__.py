"""The load generator: simulated agents that speak the real protocol by HTTP, in their own process.

It shares the machine with the server, so it must be cheap: one event loop, plain sockets, and of
the answers only what is needed is read. Tasks have no processes: they end after a given time.
"""
