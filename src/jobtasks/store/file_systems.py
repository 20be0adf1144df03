"""Which file systems a database may lie on: those of this machine alone.

SQLite's write-ahead log is shared through memory of one machine, and relies on locks and on fsync
as local disks have them. On a network file system all three may be missing without a word.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MOUNTS = Path("/proc/self/mountinfo")
"""What the kernel says of every mount; it tells FUSE file systems apart, which statfs does not."""
NETWORK = frozenset(
    {
        "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "gfs", "gfs2",
        "glusterfs", "gpfs", "ibmfs", "lustre", "mmfs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs",
        "panfs", "prl_fs", "pvfs2", "quobyte", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
        "wekafs",
    }
)  # fmt: skip
"""File systems that other machines may see at the same time; shares of a virtual machine's host."""
LOCAL_FUSE = frozenset(
    {
        "bindfs", "encfs", "exfat", "fuse-overlayfs", "fuse2fs", "gocryptfs", "lxcfs", "mergerfs",
        "mount.ntfs", "ntfs", "ntfs-3g", "securefs", "zfs-fuse",
    }
)  # fmt: skip
"""FUSE file systems on local disks; any other may be a network: sshfs, s3fs, rclone, …"""
ESCAPES = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}


class Mount(NamedTuple):
    """One line of mountinfo."""

    point: str
    kind: str
    """``ext4``, ``nfs4``, ``fuse.sshfs``, …"""


def parse_mounts(text: str) -> list[Mount]:
    """Return what is mounted, in order; a later mount covers an earlier one of the same place."""
    found = []
    for line in text.splitlines():
        place, separator, source = line.partition(" - ")
        if separator:
            found.append(Mount(_unescaped(place.split()[4]), source.split()[0]))
    return found


def _unescaped(text: str) -> str:
    for escape, letter in ESCAPES.items():
        text = text.replace(escape, letter)
    return text


def kind_at(path: Path, mounts: list[Mount]) -> str:
    """Return the kind of file system that an absolute, resolved path lies on; "" when unknown."""
    best = Mount("", "")
    for mount in mounts:
        if path.is_relative_to(mount.point) and len(mount.point) >= len(best.point):
            best = mount
    return best.kind


def is_network(kind: str) -> bool:
    """Return whether a database on such a file system may be lost or damaged."""
    if kind == "fuse" or kind.startswith("fuse."):
        return kind.removeprefix("fuse.") not in LOCAL_FUSE
    return kind in NETWORK


def network_kind(path: Path) -> str:
    """Return the kind of network file system that a path lies on; "" on one of this machine.

    The path need not exist yet. Where the kernel does not tell, nothing is known against it.
    """
    try:
        mounts = parse_mounts(MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
        kind = kind_at(path.resolve(), mounts)
    except (OSError, RuntimeError):
        return ""
    return kind if is_network(kind) else ""
