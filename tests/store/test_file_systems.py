"""Which file systems a database may lie on."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobtasks.store import file_systems
from jobtasks.store.file_systems import Mount, is_network, kind_at, network_kind, parse_mounts

TABLE = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:26 / /people rw shared:2 - nfs4 server:/people rw,vers=4.2
31 30 8:2 / /people/local rw shared:3 master:1 - xfs /dev/sdb1 rw
32 21 0:27 / /mnt/two\\040words rw - fuse.sshfs me@host:/ rw
33 21 0:28 / /srv rw - nfs4 server:/srv rw
34 33 8:3 / /srv rw - ext4 /dev/sdc1 rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/jobtasks", "ext4"),
        ("/people/ann/jobtasks", "nfs4"),
        ("/peoples/ann", "ext4"),
        ("/people/local/jobtasks", "xfs"),
        ("/mnt/two words/jobtasks", "fuse.sshfs"),
        ("/srv/jobtasks", "ext4"),
    ],
)
def test_the_innermost_mount_counts(path: str, kind: str) -> None:
    """The deepest that holds the path; of two at one place the later."""
    assert kind_at(Path(path), parse_mounts(TABLE)) == kind


@pytest.mark.parametrize(
    "kind",
    [
        *("nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "gpfs", "beegfs", "ceph", "virtiofs"),
        *("fuse", "fuse.sshfs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.unheard-of"),
    ],
)
def test_what_other_machines_may_see_is_a_network(kind: str) -> None:
    """So is a FUSE file system of which nothing is known."""
    assert is_network(kind)


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "fuse.fuse-overlayfs"]
)
def test_disks_of_this_machine_are_none(kind: str) -> None:
    """Containers' layers and NTFS on a local disk included."""
    assert not is_network(kind)


def test_nothing_is_known_without_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not tell, no directory is refused."""
    monkeypatch.setattr(file_systems, "MOUNTS", tmp_path / "missing")
    assert network_kind(tmp_path) == ""
    assert kind_at(tmp_path, []) == ""


def test_links_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is where the directory is, also one that is not there yet."""
    table = tmp_path / "mountinfo"
    table.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / {tmp_path}/far rw - nfs host:/ rw\n"
    )
    (tmp_path / "near").symlink_to("far")
    monkeypatch.setattr(file_systems, "MOUNTS", table)
    assert network_kind(tmp_path / "near" / "state") == "nfs"
    assert network_kind(tmp_path / "state") == ""


def test_this_machine_is_understood() -> None:
    """The kernel's own table is read, and knows the root."""
    mounts = parse_mounts(file_systems.MOUNTS.read_text())
    assert any(isinstance(mount, Mount) and mount.point == "/" for mount in mounts)
    assert kind_at(Path("/proc/self"), mounts) == "proc"
