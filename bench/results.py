"""Figures on disk: one file for each call of the bench, the newest of each workload wins."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.session import Sizes

FOLDER = Path(__file__).with_name("results")


class Results:
    """The file of one call; written anew after every workload, so that none is lost."""

    def __init__(self, machine: dict[str, Any], sizes: dict[str, Any]) -> None:
        FOLDER.mkdir(exist_ok=True)
        self.path = FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
        self._kept: dict[str, Any] = {"machine": machine, "sizes": sizes, "workloads": {}}

    def keep(self, name: str, outcome: dict[str, Any]) -> None:
        """Add what a workload found."""
        self._kept["workloads"][name] = outcome
        self.path.write_text(json.dumps(self._kept, indent=1) + "\n")


def newest(folder: Path = FOLDER, *, short: bool = False) -> dict[str, dict[str, Any]]:
    """Return the newest outcome of each workload, with its machine; short runs only if wanted."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        kept = json.loads(path.read_text())
        if short or is_full(kept["sizes"]):
            for name, outcome in kept["workloads"].items():
                found[name] = {**outcome, "machine": kept["machine"]}
    return found


def is_full(sizes: dict[str, Any]) -> bool:
    """Whether a run was of the sizes that the goals name, or had more rounds."""
    full = json.loads(json.dumps(asdict(Sizes())))
    return bool(sizes["rounds"] >= full["rounds"]) and {**sizes, "rounds": 0} == {
        **full,
        "rounds": 0,
    }
