"""The bench's own arithmetic, drawings and page; nothing is measured here."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from bench.conductor import Contender, alternate
from bench.goals import at_least, at_most
from bench.load.line import Line, content_length
from bench.peers.seat import NAMES, REQUIREMENTS, TITLES, WITHOUT
from bench.plots import Bar, Panel, bars, lines, nice_ceiling
from bench.registry import WORKLOADS, chosen
from bench.results import Results, newest
from bench.session import Sizes

from bench import page


def test_a_ratio_is_to_the_floors_around_a_run() -> None:
    """The floor slows down by half in the middle: the ratios do not."""
    floors = iter([1000.0, 1000.0, 500.0, 500.0, 500.0])
    seconds = iter([1.0, 2.0, 3.0, 6.0])
    said: list[str] = []
    contenders = [
        Contender("a", 500, lambda count: next(seconds)),
        Contender("b", 300, lambda count: next(seconds)),
    ]
    found = alternate(lambda: next(floors), contenders, 2, said.append)
    assert [run.floor_per_second for run in found.runs["a"]] == [1000, 500]
    assert [run.floor_per_second for run in found.runs["b"]] == [750, 500]
    assert [run.ratio for run in found.runs["a"]] == [0.5, pytest.approx(1 / 3)]
    assert found.against("a", "b") == pytest.approx((0.5 / 0.2 + (1 / 3) / 0.1) / 2)
    assert len(said) == 2


def test_who_fails_is_left_out() -> None:
    """The others go on, and of a failed one nothing is kept."""
    asked: list[int] = []

    def fail(count: int) -> float:
        asked.append(count)
        raise OSError("no")

    contenders = [Contender("a", 1, lambda count: 1.0), Contender("b", 1, fail)]
    found = alternate(lambda: 1.0, contenders, 3, lambda line: None)
    assert asked == [1]
    assert len(found.runs["a"]) == 3
    assert found.figures()["b"] == {"failed": "OSError: no"}


def test_goals() -> None:
    """Bounds are of either kind, or none."""
    assert at_least("rate", 5, 5).is_met
    assert not at_most("time", 5.1, 5).is_met
    assert at_least("told", 1, None).is_met is None
    assert str(at_most("time", 5.1, 5, "ms")) == "time: 5.10 ms, wanted at most 5: MISSED"


def test_drawings_are_well_formed() -> None:
    """Also with names that XML would mistake."""
    drawn = bars("a < b", "note", [Bar("R&D", 2.0, "2"), Bar("ours", 1.0, "1", is_ours=True)])
    assert len(ElementTree.fromstring(drawn).findall("{*}rect")) == 2
    panels = [Panel("done", [(0, 0), (2, 900)]), Panel("memory", [(0, 60), (2, 61)])]
    assert len(ElementTree.fromstring(lines("t", "n", panels)).findall("{*}polyline")) == 2
    assert [nice_ceiling(value) for value in (0, 0.9, 12, 250, 260)] == [1, 1, 20, 250, 500]


def outcome_of_peers() -> dict[str, Any]:
    """What P2 finds, with one peer that ran and one that is left out."""
    runs = {"ratio": 0.5, "per_second": 10.0}
    commands = {"ours": runs, "peer": {**runs, "ratio": 0.25}, "times": 2.0}
    ran = {
        "title": "Ray",
        "version": "1",
        "setting": "as it is",
        "commands": commands,
        "tree": {},
        "one_task_ms": {"ours": {"median": 3.0}, "peer": {"median": 6.0}},
    }
    return {"ray": ran, "dask": {"title": "Dask", "left_out": "not set up"}}


def test_the_page_is_made_of_the_newest_full_runs(tmp_path: Path, monkeypatch: Any) -> None:
    """Short runs do not count; what is around the marks stays."""
    monkeypatch.setattr("bench.results.FOLDER", tmp_path)
    machine = {"at": "2026-01-02 03:04", "cores": 2, "processor": "p", "memory_gib": 4}
    machine |= {"system": "s", "kernel": "6", "python": "3.11", "file_system": "ext4"}
    machine |= {"fdatasync_ms": 0.5, "python_ms": 40}
    goals = [vars(at_least("times Ray", 2.0, 1.5, "×"))]
    for name, rounds in (("1", 7), ("2", 1)):
        results = Results(machine, {**vars(Sizes()), "rounds": rounds})
        results.path = tmp_path / f"{name}.json"
        results.keep("P2", {"goals": goals, "figures": outcome_of_peers()})
        if rounds == 1:
            results.keep("P5", {"goals": [], "figures": {}})
    assert set(newest(tmp_path)) == {"P2"}
    assert set(newest(tmp_path, short=True)) == {"P2", "P5"}
    made = page.with_figures(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", "new")
    assert made == f"before\n{page.BEGIN}\n\nnew\n\n{page.END}\nafter\n"
    section = page.section(newest(tmp_path))
    assert "after 0.50 ms and this Python takes 40 ms for 100,000 turns" in section
    assert "| 2 × | ≥ 1.5 × | reached |" in section
    assert "| Ray | 1 | 0.25 | 0.50 | 2 × |" in section
    assert "Dask is left out: not set up." in section
    assert "figures/peers.svg" in section


def test_names_are_known() -> None:
    """Of workloads and of peers, whose files are there."""
    assert [workload.name for workload in chosen("p5, P1")] == ["P1", "P5"]
    assert len(chosen("")) == len(WORKLOADS) - 1
    with pytest.raises(LookupError):
        chosen("P99")
    assert set(TITLES) == set(NAMES)
    for name in NAMES:
        assert (REQUIREMENTS.parent / f"{name}.py").exists()
        assert (REQUIREMENTS / f"{name}.txt").exists() != (name in WITHOUT)


def test_answers_may_come_in_pieces() -> None:
    """Of an HTTP answer nothing is taken before it is whole; the next one is a new answer."""
    taken: list[tuple[int, bytes]] = []

    class Wire:
        def write(self, data: bytes) -> None:
            """Take no notice."""

    async def play() -> None:
        line = Line(("127.0.0.1", 1), "/x", "t", "k")
        line._transport = Wire()  # type: ignore[assignment]
        for body in (b"abc", b""):
            line.post(b"", lambda *answer: taken.append(answer))
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            for byte in head + body:
                assert line.busy
                line.data_received(bytes([byte]))
            assert not line.busy

    asyncio.run(play())
    assert taken == [(200, b"abc"), (200, b"")]
    assert content_length(b"HTTP/1.1 204 No Content") == 0
    assert content_length(b"HTTP/1.1 200 OK\r\ncontent-length:  12\r\nx: y") == 12
