#!/usr/bin/env python3
"""MD5 of every file below a directory, one task per file, printed as ``md5sum`` prints it.

    jobtasks run parallel_hash.py --input DIR

Script parameters:

    input           the directory (or a single file)
    match           only files whose name matches this pattern; default "*"
    skip            names of directories that are left out; default []
    files_per_task  default 1

Level 0 looks for files, level 1 hashes them, level 2 merges and sorts. The output is that of
``find INPUT -type f -print0 | xargs -0 md5sum | LC_ALL=C sort -k2``.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Iterable, Iterator

from jobtasks_sdk import CurrentTask, Job, current_job, current_task

CHUNK_BYTES = 1024 * 1024
PART_LETTERS_MAX = 1024 * 1024
"""An output has a limit, 2 MiB; a longer listing goes into several, one after the other."""


def look_for_files(job: Job, task: CurrentTask) -> None:
    """Level 0: one task per file, and one that waits for all of them."""
    wanted = job.script_parameters
    files = sorted(find(wanted["input"], wanted.get("match", "*"), wanted.get("skip", [])))
    nameless = [name for name in files if not is_text(name)]
    if nameless:
        task.fail(f"names that are not UTF-8 cannot be part of an output: {nameless[:5]!a}")
        return
    count = wanted.get("files_per_task", 1)
    task.create_many(
        {"parameters": {"files": files[start : start + count]}}
        for start in range(0, len(files), count)
    )
    task.create(sequence=2)
    task.complete()


def hash_files(job: Job, task: CurrentTask) -> None:
    """Level 1: the lines of some files."""
    try:
        lines = [md5_line(path) for path in task.parameters["files"]]
    except (PermissionError, FileNotFoundError) as error:
        # No later attempt would fare better. Other errors end the process: they may pass.
        task.fail(f"cannot read {error.filename}: {error.strerror}")
    else:
        task.complete("\n".join(lines))


def merge(job: Job, task: CurrentTask) -> None:
    """Level 2: all lines, sorted by file name."""
    outputs = (hashed.output for hashed in job.tasks(sequence=1))
    lines = sorted(
        "\n".join(outputs).split("\n"), key=lambda line: line.partition("  ")[2].encode()
    )
    parts = list(in_parts(lines))
    if len(parts) == 1:
        task.complete(parts[0] or None)
        return
    task.create_many({"parameters": {"text": part}} for part in parts)
    task.complete()


def say_part(job: Job, task: CurrentTask) -> None:
    """Level 3, of a long listing only: one part of it."""
    task.complete(task.parameters["text"])


def find(top: str, match: str, skip: Iterable[str]) -> Iterator[str]:
    """Paths of regular files, as ``find TOP -type f`` prints them; symbolic links are not."""
    if os.path.isfile(top):
        yield top
    for folder, folders, names in os.walk(top, onerror=complain):
        folders[:] = [name for name in folders if name not in skip]
        for name in fnmatch.filter(names, match):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def complain(error: OSError) -> None:
    """A directory that cannot be read must not be left out in silence."""
    raise error


def is_text(name: str) -> bool:
    """Whether the name is UTF-8, as everything that travels as JSON."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def md5_line(path: str) -> str:
    """A line of md5sum: a backslash in front says that the name is written with escapes."""
    digest = hashlib.md5()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    name = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "" if name == path else "\\"
    return f"{mark}{digest.hexdigest()}  {name}"


def in_parts(lines: Iterable[str]) -> Iterator[str]:
    """The lines as texts of bounded length."""
    part: list[str] = []
    letters = 0
    for line in lines:
        if part and letters + len(line) > PART_LETTERS_MAX:
            yield "\n".join(part)
            part, letters = [], 0
        part.append(line)
        letters += len(line) + 1
    yield "\n".join(part)


LEVELS = (look_for_files, hash_files, merge, say_part)

if __name__ == "__main__":
    this_task = current_task()
    LEVELS[this_task.sequence](current_job(), this_task)
