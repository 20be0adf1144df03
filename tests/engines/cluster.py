"""A real Slurm for tests: munge, a controller and nodes of its own, in one directory, as root.

Each node has a process and host name space of its own: killing one process is its crash, and no
test can reach across nodes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "unshare")
CORES = 8
MEMORY_MB = 4000
CONFIGURATION = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=10000,batch_sched_delay=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
EnforcePartLimits=ALL
ReturnToService=2
SlurmdTimeout=10
SlurmctldTimeout=15
KillWait=3
MinJobAge=300
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes=n[1-{count}] Default=YES MaxTime=INFINITE State=UP
PartitionName=few Nodes=n[1-{count}] MaxNodes=2 MaxTime=60 State=UP
"""
NODE = "NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cores}"
NODE += " RealMemory={memory}"


def missing_programs() -> list[str]:
    """Return the programs of Slurm that are not installed."""
    return [name for name in PROGRAMS if program(name) is None]


def program(name: str) -> str | None:
    """Return where a program is, also where only root looks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens to now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return when the condition holds; errors: AssertionError."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


class Cluster:
    """Slurm's daemons and virtual nodes; all of them are children of this process."""

    def __init__(self, folder: Path, nodes: int = 4) -> None:
        self.folder = folder
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """What a client of this cluster has in its environment."""
        path = f"{os.environ.get('PATH', '')}:/usr/sbin"
        return {**os.environ, "PATH": path, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Start everything; return when all nodes are idle."""
        for name in ("state", "spool", "log", "run", "tmp"):
            (self.folder / name).mkdir(mode=0o755, parents=True)
        self._configure()
        self._start_munge()
        self._daemons.append(self._spawn(["slurmctld", "-D", "-i"], "controller"))
        for name in self.nodes:
            self.boot(name)
        wait_until("all nodes are idle", lambda: self.states() == dict.fromkeys(self.nodes, "idle"))

    def _configure(self) -> None:
        host = socket.gethostname().partition(".")[0]
        port, *ports = free_ports(1 + len(self.nodes))
        nodes = [
            NODE.format(number=number, host=host, port=each, cores=CORES, memory=MEMORY_MB)
            for number, each in enumerate(ports, 1)
        ]
        text = CONFIGURATION.format(
            host=host, port=port, folder=self.folder, nodes="\n".join(nodes), count=len(nodes)
        )
        (self.folder / "slurm.conf").write_text(text)

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        run = self.folder / "run"
        files = {"socket": run / "munge.sock", "pid-file": run / "munged.pid"}
        files |= {"log-file": self.folder / "log/munged.log", "seed-file": run / "munge.seed"}
        options = [f"--{name}={path}" for name, path in files.items()]
        command = ["munged", "--foreground", "--force", f"--key-file={key}", *options]
        self._daemons.append(self._spawn(command, "munged"))
        wait_until("munged answers", (run / "munge.sock").exists)

    def _spawn(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        where = program(command[0])
        assert where is not None, command[0]
        with (self.folder / "log" / f"{log}.out").open("ab") as output:
            return subprocess.Popen(
                [where, *command[1:]],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def boot(self, name: str) -> None:
        """Start a node, or start it again."""
        spaces = ["--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--uts"]
        script = f"hostname {name}; exec {program('slurmd')} -D -N {name}"
        self._nodes[name] = self._spawn(["unshare", *spaces, "sh", "-c", script], name)

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a node."""
        found = [self._nodes[name].pid]
        for pid in found:
            # Whoever is gone has no children; what it had is gone too.
            with contextlib.suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (thread / "children").read_text().split())
        for pid in found[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def crash(self, name: str) -> None:
        """End a node with all its processes at once."""
        node = self._nodes.pop(name)
        node.kill()
        node.wait()

    def ask(self, *command: str) -> str:
        """Return what one of Slurm's commands prints."""
        done = subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip()

    def states(self) -> dict[str, str]:
        """Return what the controller thinks of each node."""
        try:
            lines = self.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T").splitlines()
        except subprocess.CalledProcessError:
            return {}
        return dict(line.split() for line in lines)

    def jobs(self) -> list[str]:
        """Return the names of the jobs that are not over."""
        return self.ask("squeue", "-h", "-o", "%j").split()

    def until_empty(self, seconds: float = 60.0) -> None:
        """Return when no job is left; errors: AssertionError, with those that are."""
        limit = time.monotonic() + seconds
        while left := self.ask("squeue", "-h", "-o", "%i %j %T %r %N"):
            assert time.monotonic() < limit, left
            time.sleep(0.1)

    def stop(self) -> None:
        """End everything that was started here."""
        for node in self._nodes.values():
            node.kill()
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
        for process in (*self._nodes.values(), *self._daemons):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
