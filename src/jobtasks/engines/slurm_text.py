"""Slurm in words: the script and command lines that are given to it, and what its answers mean.

Pure functions, tested on answers that a real Slurm gave.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import msgspec

from jobtasks.core.requests import KIB_PER_MIB, USABLE_SHARE, Ask, Limits, NodeKind, Sighting
from jobtasks.core.requests import RequestState as State

PREFIX = "jobtasks-"
"""Every request of ours is a job whose name begins so."""
QUEUE_FORMAT = "%i|%j|%T|%r|%D|%N|%S|%e"
QUEUE_HEAD = "JOBID|NAME|STATE|REASON|NODES|NODELIST|START_TIME|END_TIME"
"""Its first line: an answer without it is none, so that silence is not taken for an empty queue."""
PARTITION_FORMAT = "%P|%D|%c|%m|%d|%s"
QUEUE_VARIABLES = {"SLURM_TIME_FORMAT": "%s"}
"""Times as Unix seconds."""
MICROSECONDS = 1_000_000
WAITING = {
    *("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD"),
    "SPECIAL_EXIT",
}
PRESENT = {
    *("RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "COMPLETING", "STAGE_OUT"),
}
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
}
NO_REASON = {"None", "(null)", ""}
NO_ANSWER = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "temporarily unable to accept job",
    "Zero Bytes were transmitted",
    "controller in standby mode",
    "ommunication connection failure",
    "onnection refused",
    "onnection timed out",
)
"""Errors after which nobody knows whether the controller took what it was sent."""
UNKNOWN_JOB = "Invalid job id specified"

NODE_SCRIPT = """\
trap : TERM
umask 077
base={base}
mkdir -p "$base" && [ -O "$base" ] || exit 1
node="$base"/{name}-"$SLURMD_NODENAME"
mkdir -p "$node" || exit 1
printf '%s\\n' "$JOBTASKS_AGENT_TOKEN" > "$node/agent.token"
{authorities}unset JOBTASKS_AGENT_TOKEN JOBTASKS_AGENT_CA
{keeper} --token-file "$node/agent.token" --node-dir "$node" --place "$SLURMD_NODENAME" \\
  2>> "$node/agent.log" && rm -rf "$node"
"""
"""What runs on each node: it makes the node's directory, and removes it when its keeper ended well.

Slurm sends TERM to all processes of a step: this one is to outlive the keeper.
"""
SCRIPT = """\
#!/bin/sh
# Nodes for {name}: a keeper with its agent on each, until the server sends them away.
export JOBTASKS_AGENT_TOKEN={token}
{authorities}for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
  srun --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task={cores} --no-kill=set \\
    --kill-on-bad-exit=0 --input=none --output=none sh -c {command} &
done
wait
"""


class SlurmOptions(msgspec.Struct, frozen=True, rename="kebab"):
    """What ``--engine-option`` may say to the Slurm engine."""

    partition: str = ""
    """"": the cluster's default."""
    account: str = ""
    qos: str = ""
    time: str = ""
    """How long an allocation lasts, as ``sbatch --time`` takes it; "": as the partition says."""
    cores: int = 1
    """Of a node for which the job asks for no more: as many tasks run there at a time."""
    memory_mb: int = 0
    """Of such a node; 0: as the cluster says."""
    nodes_max: int = 64
    """Nodes of a job that gives no max_nodes."""
    node_dir: str = ""
    """Where agents have their directories, on each node; "": in its TMPDIR, or /tmp."""
    python: str = ""
    """The Python on the nodes that has JobTasks; "": the server's own, under the same path."""
    sbatch: str = ""
    """Further words for ``sbatch``."""


def sbatch_words(name: str, ask: Ask, options: SlurmOptions) -> list[str]:
    """Return the command that asks for an allocation; the script goes to its stdin."""
    words = ["sbatch", "--parsable", f"--job-name={name}"]
    words += [f"--nodes={ask.min_nodes}-{ask.max_nodes}", f"--ntasks={ask.max_nodes}"]
    words += [f"--cpus-per-task={ask.cores}", "--no-kill", "--no-requeue", "--output=/dev/null"]
    given = {
        "mem": f"{ask.node_memory_mb}M" if ask.memory_kib else "",
        "tmp": f"{ask.scratch_mb}M" if ask.scratch_mb else "",
        "exclude": ",".join(ask.without),
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "time": options.time,
    }
    words += [f"--{option}={value}" for option, value in given.items() if value]
    return [*words, *shlex.split(options.sbatch)]


def batch_script(
    name: str,
    ask: Ask,
    keeper: Sequence[str],
    token: str,
    authorities: str = "",
    node_dir: str = "",
) -> str:
    """Return the script of an allocation: one keeper on each node, each in a step of its own.

    `keeper` is its command line but for the node's directory. The token goes to the nodes in the
    script, which only its owner and the cluster's operators can read. `authorities` (PEM) are
    written beside it when the server is known by them.
    """
    inner = NODE_SCRIPT.format(
        base=shlex.quote(node_dir) if node_dir else '"${TMPDIR:-/tmp}/jobtasks-$(id -u)"',
        name=name,
        authorities='printf %s "$JOBTASKS_AGENT_CA" > "$node/ca.pem"\n' if authorities else "",
        keeper=shlex.join(keeper) + (' --ca-file "$node/ca.pem"' if authorities else ""),
    )
    return SCRIPT.format(
        name=name,
        token=shlex.quote(token),
        authorities=f"export JOBTASKS_AGENT_CA={shlex.quote(authorities)}\n" if authorities else "",
        cores=ask.cores,
        command=shlex.quote(inner),
    )


def queue_words() -> list[str]:
    """Return the command that shows all allocations of ours, those that ended lately too."""
    return ["squeue", "--me", "--states=all", f"--format={QUEUE_FORMAT}"]


def parse_queue(text: str) -> list[Sighting] | None:
    """Return what a queue shows of ours; None when it is no whole answer."""
    head, *lines = text.splitlines() or [""]
    if head.strip() != QUEUE_HEAD:
        return None
    sightings = [_sighting(line) for line in lines if line.count("|") >= QUEUE_HEAD.count("|")]
    return [one for one in sightings if one is not None and one.name.startswith(PREFIX)]


def _sighting(line: str) -> Sighting | None:
    engine_id, name, word, rest = line.strip().split("|", 3)
    # A reason may be a whole sentence.
    reason, _, places, _, ends_at = rest.rsplit("|", 4)
    state = state_of(word)
    if state is None:
        return None
    return Sighting(
        name,
        engine_id,
        state,
        word,
        "" if reason in NO_REASON else reason,
        tuple(expand_hosts(places)),
        int(ends_at) * MICROSECONDS if ends_at.isdigit() and state is State.GRANTED else None,
    )


def state_of(word: str) -> State | None:
    """Return what Slurm's word for a state means to us; None for one that is not known."""
    for state, words in ((State.ASKED, WAITING), (State.GRANTED, PRESENT), (State.OVER, ENDED)):
        if word in words:
            return state
    return None


def parse_submitted(text: str) -> str | None:
    """Return the id that ``sbatch --parsable`` printed, without the cluster's name."""
    found = re.fullmatch(r"(\d+)(;\S+)?", text.strip())
    return found[1] if found else None


def is_unclear(error: str) -> bool:
    """Return whether an error leaves open if the controller did what it was asked."""
    return not error.strip() or any(words in error for words in NO_ANSWER)


def refusal_of(error: str) -> str:
    """Return an error's last sentence, without the program's name."""
    lines = [line for line in error.strip().splitlines() if line.strip()]
    text = re.sub(r"^\w+: (error: )?", "", lines[-1] if lines else "it gave no reason")
    return text.removeprefix("Batch job submission failed: ")


def limits_words(partition: str) -> list[str]:
    """Return the command that shows what the nodes of a partition are."""
    words = ["sinfo", "--noheader", "--exact", f"--format={PARTITION_FORMAT}"]
    return [*words, f"--partition={partition}"] if partition else words


def parse_limits(text: str, partition: str = "") -> Limits:
    """Return what a partition's nodes are; without a name, of the default one (``*``)."""
    kinds: list[NodeKind] = []
    nodes_max = 0
    for line in text.splitlines():
        name, *fields = line.strip().split("|")
        if len(fields) != 5 or not (partition or name.endswith("*")):
            continue
        number, cores, memory_mb, disk_mb = (_number(each) for each in fields[:4])
        memory_kib = int(memory_mb * KIB_PER_MIB * USABLE_SHARE)
        kinds.append(NodeKind(number, cores, memory_kib, disk_mb))
        most = fields[4].rpartition("-")[2]
        nodes_max = _number(most) if most.isdigit() else 0
    return Limits(nodes_max, tuple(kinds))


def _number(text: str) -> int:
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0


def expand_hosts(text: str) -> Iterator[str]:
    """Yield the hosts that a list of Slurm's names: ``n[1-2,04],m``."""
    for item in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        parts = re.split(r"\[([^\]]*)\]", item)
        choices = [list(_range(part)) if place % 2 else [part] for place, part in enumerate(parts)]
        yield from ("".join(words) for words in product(*choices))


def _range(text: str) -> Iterator[str]:
    for item in text.split(","):
        first, _, last = item.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield str(number).zfill(len(first))


def environment_for(environ: Mapping[str, str], pass_env: Sequence[str]) -> dict[str, str]:
    """Return what Slurm's commands, and so the nodes, are told of the server's environment."""
    plain = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SHELL", "LD_LIBRARY_PATH"}
    kept = plain | set(pass_env)
    return {
        name: value
        for name, value in environ.items()
        if name in kept or name.startswith(("LC_", "SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT"))
    }
