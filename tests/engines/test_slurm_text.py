"""Slurm's words: what is given to it, and what its recorded answers mean (engines/slurm_text.py).

The answers were given by Slurm 22.05 with the four nodes of cluster.py.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core.requests import Ask, Limits, NodeKind, RequestState, Sighting
from jobtasks.engines import slurm_text as text
from jobtasks.engines.slurm_text import SlurmOptions

QUEUE = """\
JOBID|NAME|STATE|REASON|NODES|NODELIST|START_TIME|END_TIME
2|s.sh|FAILED|BadConstraints|1||1795683666|1795683666
3|jobtasks-pend2|PENDING|Resources|4||1827219664|NONE
4|jobtasks-pend3|PENDING|Nodes required for job are DOWN, DRAINED or reserved for jobs in higher \
priority partitions|4||N/A|N/A
1|jobtasks-abc|RUNNING|None|3|n[1-2,4]|1795683664|1827219664
5|jobtasks-old|COMPLETED|None|1|n3|1795683664|1795683700
"""
NAMES = ("pend2", "pend3", "abc", "old")
PARTITIONS = """\
main*|4|8|4000|0|1-infinite
few|4|8|4000|0|1-2
"""
REFUSALS = {
    "sbatch: error: Batch job submission failed: Node count specification invalid": (
        "Node count specification invalid"
    ),
    "sbatch: error: Memory specification can not be satisfied\n"
    "sbatch: error: Batch job submission failed: Requested node configuration is not available": (
        "Requested node configuration is not available"
    ),
    "sbatch: error: invalid partition specified: nix\n"
    "sbatch: error: Batch job submission failed: Invalid partition name specified": (
        "Invalid partition name specified"
    ),
    "sbatch: error: Batch job submission failed: Requested time limit is invalid"
    " (missing or exceeds some limit)": (
        "Requested time limit is invalid (missing or exceeds some limit)"
    ),
}


def test_a_queue_is_read() -> None:
    """Only what is ours; what waits has a reason, what runs its nodes and its end."""
    found = text.parse_queue(QUEUE)
    assert found is not None
    assert [one.name for one in found] == [
        f"jobtasks-{x}" for x in ("pend2", "pend3", "abc", "old")
    ]
    first, second, third, fourth = found
    assert first == Sighting("jobtasks-pend2", "3", RequestState.ASKED, "PENDING", "Resources")
    assert second.reason.endswith("higher priority partitions")
    assert third == Sighting(
        *("jobtasks-abc", "1", RequestState.GRANTED, "RUNNING", ""),
        *(("n1", "n2", "n4"), 1827219664_000_000),
    )
    assert fourth.state is RequestState.OVER


@pytest.mark.rule("R35")
@pytest.mark.parametrize("silence", ["", "\n", "slurm_load_jobs error: something", QUEUE[58:]])
def test_silence_is_no_empty_queue(silence: str) -> None:
    """Without its first line it is no answer."""
    assert text.parse_queue(silence) is None
    assert text.parse_queue(QUEUE.splitlines()[0]) == []


def test_every_state_means_something() -> None:
    """One that is not known is as if nothing had been shown."""
    words = text.WAITING | text.PRESENT | text.ENDED
    assert len(words) == len(text.WAITING) + len(text.PRESENT) + len(text.ENDED)
    assert all(text.state_of(word) is not None for word in words)
    assert text.state_of("DREAMING") is None
    assert text.parse_queue(QUEUE.replace("RUNNING", "DREAMING")) is not None


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        ("", []),
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[1-2,4],m", ["n1", "n2", "n4", "m"]),
        ("c[08-11]", ["c08", "c09", "c10", "c11"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("a-b.example,n[7]", ["a-b.example", "n7"]),
    ],
)
def test_lists_of_hosts_are_expanded(hosts: str, names: list[str]) -> None:
    """As ``scontrol show hostnames`` does."""
    assert list(text.expand_hosts(hosts)) == names


def test_a_partition_is_read() -> None:
    """The default one is marked; of a node's memory 5 % are left to others (R28)."""
    kind = NodeKind(4, 8, int(4000 * 1024 * 0.95))
    assert text.parse_limits(PARTITIONS) == Limits(0, (kind,))
    assert text.parse_limits("few|4|8|4000|0|1-2\n", "few") == Limits(2, (kind,))
    assert text.parse_limits("few|4|8|4000+|500|1-2\n", "few").kinds[0].scratch_mb == 500
    assert text.parse_limits("") == Limits()


@pytest.mark.parametrize("said", REFUSALS)
def test_a_refusal_is_told(said: str) -> None:
    """In Slurm's own words, without those that are always there."""
    assert text.refusal_of(said) == REFUSALS[said]
    assert not text.is_unclear(said)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller"
        " (connect failure)",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
    ],
)
def test_what_is_no_clear_refusal_is_none(said: str) -> None:
    """The controller may have taken the job."""
    assert text.is_unclear(said)


def test_an_id_is_read() -> None:
    """With a cluster's name or without; anything else is none."""
    assert text.parse_submitted("17\n") == "17"
    assert text.parse_submitted("17;lab\n") == "17"
    assert text.parse_submitted("Submitted batch job 17") is None


def test_an_allocation_is_asked_for_in_words() -> None:
    """Nodes from to, cores, memory with what others need, what to avoid, where, for how long."""
    ask = Ask(2, 4, cores=3, memory_kib=950 * 1024, scratch_mb=7, without=("n1", "n2"))
    options = SlurmOptions(partition="main", time="1:00", account="us", sbatch="--nice=5 -C 'a&b'")
    words = text.sbatch_words("jobtasks-x", ask, options)
    assert words[:3] == ["sbatch", "--parsable", "--job-name=jobtasks-x"]
    for word in ("--nodes=2-4", "--ntasks=4", "--cpus-per-task=3", "--no-kill", "--no-requeue"):
        assert word in words
    for word in ("--mem=1000M", "--tmp=7M", "--exclude=n1,n2", "--partition=main", "--time=1:00"):
        assert word in words
    assert words[-3:] == ["--nice=5", "-C", "a&b"]
    plain = text.sbatch_words("jobtasks-x", Ask(), SlurmOptions())
    assert not [word for word in plain if word.startswith(("--mem", "--time", "--exclude"))]


def script(**changes: str) -> str:
    keeper = ["/a dir/python", "-m", "jobtasks.agent.keeper", "--server", "http://h:1"]
    return text.batch_script("jobtasks-x", Ask(cores=2), keeper, "to'ken", **changes)


@pytest.mark.parametrize("changes", [{}, {"authorities": "PEM\nPEM"}, {"node_dir": "/scratch/a b"}])
def test_a_script_is_a_script(changes: dict[str, str], tmp_path: Path) -> None:
    """The shell reads it, also the part that runs on each node."""
    path = tmp_path / "script"
    path.write_text(script(**changes))
    assert subprocess.run(["sh", "-n", path], check=False).returncode == 0


@pytest.mark.parametrize("authorities", ["", "PEM\nPEM\n"])
def test_a_script_starts_a_keeper_on_each_node(tmp_path: Path, authorities: str) -> None:
    """With a private directory that holds the token; it is removed when the keeper ends well."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    stub(bin_dir / "scontrol", "echo n1; echo n2")
    # Runs what is to run on a node here.
    stub(
        bin_dir / "srun",
        'while [ "$1" != sh ]; do',
        'case $1 in --nodelist=*) export SLURMD_NODENAME="${1#--nodelist=}" ;; esac',
        'echo "$1"; shift; done > srun.$$',
        'exec "$@"',
    )
    stub(
        bin_dir / "keeper",
        'node="$NODES/jobtasks-x-$SLURMD_NODENAME"',
        '{ ls -l "$node"; cat "$node/agent.token"; echo "$@"; env; } > "$OUT.$SLURMD_NODENAME"',
    )
    keeper = [str(bin_dir / "keeper"), "-m", "x", "--server", "http://h:1"]
    written = text.batch_script(
        "jobtasks-x", Ask(cores=2), keeper, "to'ken", authorities, str(tmp_path / "nodes")
    )
    environ = {"PATH": f"{bin_dir}:/usr/bin:/bin", "OUT": str(tmp_path / "out")}
    environ |= {"SLURM_JOB_NODELIST": "n[1-2]", "NODES": str(tmp_path / "nodes")}
    subprocess.run(["sh"], input=written, text=True, env=environ, check=True, cwd=tmp_path)
    assert {path.name for path in tmp_path.glob("out.*")} == {"out.n1", "out.n2"}
    said = (tmp_path / "out.n1").read_text()
    assert "to'ken" in said
    assert "--place n1" in said
    assert "JOBTASKS_AGENT_TOKEN" not in said
    assert ("ca.pem" in said) == bool(authorities)
    assert "-rw-------" in said
    asked = next(tmp_path.glob("srun.*")).read_text()
    assert "--cpus-per-task=2" in asked and "--kill-on-bad-exit=0" in asked
    assert list((tmp_path / "nodes").iterdir()) == []


def stub(path: Path, *lines: str) -> None:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def test_nodes_are_told_little_of_the_servers_environment() -> None:
    """What an operator gave the server stays there, but for what he names."""
    environ = {"PATH": "/bin", "SECRET": "x", "JOBTASKS_TOKEN": "y", "SLURM_CONF": "c", "MINE": "m"}
    kept = text.environment_for(environ, ["MINE"])
    assert kept == {"PATH": "/bin", "SLURM_CONF": "c", "MINE": "m"}


names = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True)


@given(st.lists(st.tuples(names, st.integers(0, 99)), max_size=5))
def test_plain_lists_of_hosts_stay_as_they_are(hosts: list[tuple[str, int]]) -> None:
    """Names without brackets."""
    written = [f"{name}{number}" for name, number in hosts]
    assert list(text.expand_hosts(",".join(written))) == written
