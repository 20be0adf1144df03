"""Slurm: munge, a controller and one node daemon on this host, on ports and folders of its own."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import time
from pathlib import Path

from bench.peers.base import (
    RESULT_SECONDS,
    Adapter,
    Missing,
    free_port,
    program,
    wait_for,
    wait_for_file,
)

CONFIGURATION = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=1,sched_interval=1,batch_sched_delay=1,bf_interval=1
MaxJobCount=250000
MaxArraySize=200001
MinJobAge=2
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
SlurmctldDebug=error
SlurmdDebug=error
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs={slots} Sockets=1 \
CoresPerSocket={slots} ThreadsPerCore=1 RealMemory=1000 State=UNKNOWN
PartitionName=p Nodes=n1 Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""
PACKAGE = "slurm-wlm"
STEP_SECONDS = 0.05


class Peer(Adapter):
    """Tasks are the elements of a job array; it must be root."""

    setting = "a job array; one node that claims as many CPUs as slots, no accounting"
    share = 1 / 60
    tree_share = 1 / 20

    def version(self) -> str:
        return self._ask("sinfo", "-V").split()[-1]

    def start(self, slots: int) -> None:
        if os.getuid():
            raise Missing("only root can start its daemons")
        self._start_munge()
        configuration = self.folder / "slurm.conf"
        (self.folder / "state").mkdir()
        (self.folder / "spool-n1").mkdir()
        configuration.write_text(
            CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                folder=self.folder,
                controller_port=free_port(),
                node_port=free_port(),
                slots=slots,
            )
        )
        os.environ["SLURM_CONF"] = str(configuration)
        where = ["-D", "-f", str(configuration)]
        self.spawn("slurmctld", [program("slurmctld", package=PACKAGE), *where])
        time.sleep(1)
        self.spawn("slurmd", [program("slurmd", package=PACKAGE), "-N", "n1", *where])
        wait_for("an idle node", self._is_idle)

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        folder.mkdir(mode=0o755)
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        munged = program("munged", package="munge")
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
        options = [f"--{name}={folder / file}" for name, file in files.items()]
        # By force: the folder may lie below one that everybody may write to.
        always = ["--force", "--foreground", f"--seed-file={folder / 'seed'}"]
        self.spawn("munged", [munged, *always, *options])
        wait_for("munged", (folder / "socket").exists)

    def _ask(self, name: str, *words: str) -> str:
        command = [program(name, package=PACKAGE), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def _is_idle(self) -> bool:
        try:
            return self._ask("sinfo", "-h", "-o", "%T") == "idle"
        except subprocess.CalledProcessError:
            return False

    def _script(self, name: str, body: str) -> str:
        path: Path = self.folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    def _drain(self) -> None:
        until = time.monotonic() + RESULT_SECONDS
        while set(self._ask("squeue", "-h", "-t", "all", "-o", "%T").split()) - {"COMPLETED"}:
            if time.monotonic() > until:
                raise TimeoutError("tasks are left")
            time.sleep(STEP_SECONDS)

    def run_commands(self, count: int, command: list[str]) -> None:
        script = self._script("task.sh", f"exec {shlex.join(command)}")
        self._ask("sbatch", "-n1", "-o", "/dev/null", f"--array=1-{count}", script)
        self._drain()

    def run_tree(self, count: int) -> None:
        done = self.folder / "done"
        last = self._script("last.sh", f"exec touch {done}")
        child = self._script("child.sh", "exec /bin/true")
        submit = "sbatch --parsable -n1 -o /dev/null"
        seed = self._script(
            "seed.sh",
            f"children=$({submit} --array=1-{count} {child})\n{submit} -d afterok:$children {last}",
        )
        self._ask("sbatch", "-n1", "-o", "/dev/null", seed)
        wait_for_file(done, 0.01)

    def run_one(self, command: list[str]) -> None:
        self._ask("srun", "-Q", "-n1", *command)
