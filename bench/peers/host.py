"""``python -m bench.peers.host NAME FOLDER``: play one peer, told by lines of JSON on stdin.

A line is ``[method, argument…]``; the answer is one line: ``{"result": …, "seconds": …}`` or
``{"error": …}``. What the peer prints goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def main(name: str, folder: str) -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    peer = importlib.import_module(f"bench.peers.{name}").Peer(Path(folder))
    try:
        for line in sys.stdin:
            method, *arguments = json.loads(line)
            answers.write(json.dumps(answer(peer, method, arguments)) + "\n")
            answers.flush()
    finally:
        peer.stop()
    # Some peers leave threads behind that would keep the process.
    os._exit(0)


def answer(peer: Any, method: str, arguments: list[Any]) -> dict[str, Any]:
    """Call a method of a peer, or read an attribute; return what came of it, and the seconds."""
    begin = time.perf_counter()
    try:
        found = getattr(peer, method)
        result = found(*arguments) if callable(found) else found
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    return {"result": result, "seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    main(*sys.argv[1:])
