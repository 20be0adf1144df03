"""Twelve programs that leave processes which are hard to find or to end."""

from __future__ import annotations

import sys
from pathlib import Path

from .conftest import wait_for

BARE = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); time.sleep(1000)"

RELAY = """
import os, sys, time
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0.005)
"""

PYTHON = f"{sys.executable} -S -E"

STAY = f'{PYTHON} -c "$BARE" "$1"'
"""A process that writes its pid to the witness file $1 and stays."""

ZOO = {
    "child": f"{STAY} &",
    "session": f"setsid {STAY} &",
    "double fork": f"(setsid sh -c '{STAY} & {STAY} &' sh \"$1\" &)",
    "no environment": f"env -i setsid {STAY} &",
    "nothing to know it by": f"(cd /; exec env -i setsid {STAY} </dev/null >/dev/null 2>&1) &",
    "grandchild of that": f"(cd /; exec env -i BARE=\"$BARE\" setsid sh -c '{STAY} & {STAY}' sh"
    ' "$1" </dev/null >/dev/null 2>&1) &',
    "ignores TERM": f"(trap '' TERM HUP INT; {STAY}) &",
    "stopped": f"{STAY} & kill -STOP $!; echo $! >> \"$1\"",
    "storm": "for i in $(seq 40); do (setsid sh -c '(sleep 1000 &) ; sleep 1000' &) ; done;"
    f"{STAY} &",
    "own group": f"setsid -f {STAY}",
    "holds the pipe": f"(trap '' TERM; setsid {STAY} <&- &) | cat &",
    "relay": f'setsid {PYTHON} -c "$RELAY" "$1" &',
}  # fmt: skip

COUNT = {"double fork": 2, "grandchild of that": 2}


def command(name: str, witness: Path, then: str) -> tuple[str, ...]:
    program = f"{ZOO[name]}\n{then}"
    return ("env", f"BARE={BARE}", f"RELAY={RELAY}", "sh", "-c", program, "sh", str(witness))


def pids(witness: Path, name: str) -> list[int]:
    """Return the pids that the zoo's processes wrote down, when all have."""

    def look() -> list[int] | None:
        found = [int(line) for line in witness.read_text().split()] if witness.exists() else []
        return found if len(found) >= COUNT.get(name, 1) else None

    return wait_for(look, f"the processes of {name!r}")
