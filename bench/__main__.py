"""``python -m bench``: run workloads, say what they found, keep the figures in results/."""

from __future__ import annotations

import argparse
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_type_hints

from bench import machine
from bench.floor import Floor
from bench.peers.seat import NAMES
from bench.registry import WORKLOADS, Workload, chosen
from bench.results import Results
from bench.session import Session, Sizes

BUSY_SHARE = 0.3
"""Of the cores: a load above it is told."""


def main() -> None:
    """Run what is asked for."""
    parser, arguments = parse_arguments()
    try:
        workloads = chosen(arguments.only)
    except LookupError as error:
        parser.error(str(error))
    peers = names_of_peers(arguments.peers)
    if unknown := set(peers) - set(NAMES):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    sizes = Sizes(**{field.name: getattr(arguments, field.name) for field in fields(Sizes)})
    if not measure(workloads, sizes, peers):
        raise SystemExit(1)


def parse_arguments() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Return the command line; every size of `Sizes` has an option of its name."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = ", ".join(workload.name for workload in WORKLOADS)
    parser.add_argument(
        "--only", default="", metavar="NAMES", help=f"of {names}; default: all but P2"
    )
    parser.add_argument("--peers", default="", metavar="NAMES", help=f"of {', '.join(NAMES)}")
    hints = get_type_hints(Sizes)
    for field in fields(Sizes):
        kind: Callable[[str], Any] = integers if field.name == "agents" else hints[field.name]
        parser.add_argument(f"--{field.name}", type=kind, default=field.default, metavar="N")
    return parser, parser.parse_args()


def integers(text: str) -> tuple[int, ...]:
    """Return numbers that are separated by commas."""
    return tuple(int(part) for part in text.split(","))


def names_of_peers(text: str) -> tuple[str, ...]:
    """Return the peers of a list such as ``ray,dask``; all for none."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) or NAMES


def measure(workloads: list[Workload], sizes: Sizes, peers: Sequence[str]) -> bool:
    """Run workloads one after the other; return whether all went to their end.

    What one found is kept before the next begins; one that fails does not stop the others.
    """
    described = machine.describe()
    if described["load"] > BUSY_SHARE * described["cores"]:
        say(f"others are at work on this machine (load {described['load']}): rates will be low")
    results = Results(described, asdict(sizes))
    is_whole = True
    with tempfile.TemporaryDirectory(prefix="jobtasks-bench-") as folder:
        session = Session(sizes, Floor(Path(folder)), say, peers)
        for workload in workloads:
            say(f"{workload.name}: {workload.title}")
            begin = time.monotonic()
            try:
                outcome = workload.run(session)
            except Exception:
                traceback.print_exc()
                is_whole = False
                continue
            for goal in outcome.goals:
                say(f"  {goal}")
            say(f"  ({time.monotonic() - begin:.0f} s)")
            results.keep(workload.name, outcome.kept())
    say(f"kept in {results.path}")
    return is_whole


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
