"""The directory of a script moves with its job: checked, kept once, told where it is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import streams
from tests.api.conftest import AGENT, FAST, Api, LiveServer

from jobtasks.core.job_stream import PackLine

V1 = "/arvados/v1"


class Side:
    """A server that sends scripts to nodes, and their packs."""

    def __init__(self, directory: Path) -> None:
        self.packs = directory / "scripts"
        self.packs.mkdir(parents=True)
        self.api = Api(LiveServer(directory, FAST, pack_dir=self.packs))
        self.http = self.api.http

    def names(self) -> list[str]:
        return sorted(path.name for path in self.packs.iterdir())

    def export(self, uuid: str) -> bytes:
        answer = self.http.get(f"{V1}/jobs/{uuid}/export")
        assert answer.status_code == 200
        return answer.content

    def send(self, data: bytes, **query: str) -> httpx.Response:
        return self.http.post(f"{V1}/jobs/import", content=data, params=query)

    def taken(self, data: bytes, **query: str) -> Any:
        answer = self.send(data, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def hash_of(self, uuid: str) -> Any:
        return self.api.get(f"jobs/{uuid}")["script_hash"]

    def retry(self, uuid: str) -> None:
        assert self.http.post(f"{V1}/jobs/{uuid}/retry").status_code == 200

    def delete(self, uuid: str) -> None:
        self.http.post(f"{V1}/jobs/{uuid}/cancel")
        assert self.http.delete(f"{V1}/jobs/{uuid}").status_code == 200

    def close(self) -> None:
        self.api.close()
        self.api.server.close()


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """Where jobs come from and where they go to."""
    folder = tmp_path_factory.mktemp("sides")
    found = Side(folder / "source"), Side(folder / "target")
    yield found
    for side in found:
        side.close()


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    root = tmp_path / "scripts"
    root.mkdir()
    (root / "run").write_text(f"#!/bin/sh\n# {tmp_path}\n")
    (root / "run").chmod(0o755)
    return root


class Cancelled:
    """A job that may leave, whose directory is gone."""

    def __init__(self, source: Side, scripts: Path) -> None:
        job = source.api.job(command=None, script="run", script_version=str(scripts))
        self.uuid, self.hash = job["uuid"], job["script_hash"]
        assert self.hash
        source.http.post(f"{V1}/jobs/{self.uuid}/cancel")
        shutil.rmtree(scripts)
        self.file = f"{self.hash}.tar"
        self.pack = (source.packs / self.file).read_bytes()


@pytest.mark.rule("R23")
def test_scripts_come_and_stay(sides: tuple[Side, Side], scripts: Path) -> None:
    """Byte by byte, stored once; what is queued again keeps them, as the directory is not here."""
    source, target = sides
    job = Cancelled(source, scripts)
    data = source.export(job.uuid)
    before = target.names()
    assert target.taken(data, dry_run="true")["scripts"] == "came"
    assert target.names() == before
    assert target.taken(data)["scripts"] == "came"
    agent = {"Authorization": f"Bearer {AGENT}"}
    fetched = target.http.get(f"/agent/v1/scripts/{job.hash}", headers=agent)
    assert fetched.content == job.pack
    assert target.names() == sorted([*before, job.file])
    assert target.export(job.uuid) == data
    target.retry(job.uuid)
    assert target.hash_of(job.uuid) == job.hash
    target.delete(job.uuid)
    stored = (target.packs / job.file).stat().st_ino
    assert target.taken(data, resume="true")["resumed"]
    assert (target.packs / job.file).stat().st_ino == stored, "it is not stored twice"
    assert target.names() == sorted([*before, job.file])
    assert target.hash_of(job.uuid) == job.hash


def test_what_is_not_whole_or_another_is_not_kept(sides: tuple[Side, Side], scripts: Path) -> None:
    """Cut, changed in a stream that is whole else, too large, or of a job that has none."""
    source, target = sides
    job = Cancelled(source, scripts)
    before = target.names()
    lines = streams.parts(source.export(job.uuid))
    cut = source.export(job.uuid)[:-30]
    other = streams.with_files([lines[0], PackLine(file_bytes=5), b"other", *lines[3:]])
    head: Any = lines[0]
    none = streams.with_files([streams.changed(head, script_hash=None), *lines[1:]])
    name = streams.with_files([streams.changed(head, script_hash="../x"), *lines[1:]])
    huge = streams.with_files([lines[0]]).split(b"\n")[0] + (
        b'\n{"record":"pack","file_bytes":1000000000}\n'
    )
    for data, said in (
        (cut, "cut off"),
        (other, "are not the job's"),
        (none, "does not have"),
        (name, "must be a SHA-256"),
        (huge, "more than"),
    ):
        answer = target.send(data)
        assert 400 <= answer.status_code < 500
        assert said in answer.text, answer.text
        assert target.names() == before


def test_scripts_that_are_missing_are_told(sides: tuple[Side, Side], scripts: Path) -> None:
    """The job moves all the same: with what is here, with what its directory holds, or without."""
    source, target = sides
    copy = scripts.with_name("copy")
    shutil.copytree(scripts, copy)
    job = Cancelled(source, scripts)
    whole = source.export(job.uuid)
    (source.packs / job.file).unlink()
    data = source.export(job.uuid)
    end = streams.ended(data)
    assert (end.packs, end.packs_missing) == (0, 1)
    assert target.taken(data)["scripts"] == "missing"
    assert target.hash_of(job.uuid) == job.hash
    target.retry(job.uuid)
    assert target.hash_of(job.uuid) is None, "nobody has it: a node says what is in the way"
    target.delete(job.uuid)
    copy.rename(scripts)
    assert target.taken(data, resume="true")["scripts"] == "missing"
    assert target.hash_of(job.uuid) == job.hash, "it was packed here"
    target.delete(job.uuid)
    shutil.rmtree(scripts)
    assert target.taken(data, resume="true")["scripts"] == "here"
    assert target.hash_of(job.uuid) == job.hash
    target.delete(job.uuid)
    assert target.taken(whole)["scripts"] == "came"
