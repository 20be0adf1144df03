"""Other systems that run the same workloads, each in a virtual environment of its own.

One module for each, with a class `Peer` (see `base`); `host` runs it in its environment and is
called by `seat`, the conductor's side. Modules here need the standard library and their own
system alone.
"""
