"""How much memory the processes of an attempt use, where no control group counts it."""

from __future__ import annotations

import os
from collections.abc import Collection

from jobtasks.agent import procfs

PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


def used_kib(pids: Collection[int], limit_kib: int) -> int:
    """Return the memory that processes use together, in KiB; exact only above `limit_kib`.

    The sum of what is resident is cheap, and counts a page that two share twice. So what seems too
    much is counted again, each page once, before anybody is ended for it.
    """
    rough = sum(map(procfs.resident_pages, pids)) * PAGE_KIB
    if rough <= limit_kib:
        return rough
    return sum(_share_kib(pid) for pid in pids)


def _share_kib(pid: int) -> int:
    share = procfs.proportional_kib(pid)
    return procfs.resident_pages(pid) * PAGE_KIB if share is None else share
