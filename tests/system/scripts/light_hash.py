#!/usr/bin/env -S python3 -S
"""What parallel_hash does, with as little as possible for each file.

The tasks of level 1 import next to nothing and write their request by hand, so that a thousand of
them and their deaths fit into a test; the others use the SDK.
"""

from __future__ import annotations

import os
import time
from _md5 import md5  # type: ignore[import-not-found]
from _socket import socket

from note import note  # type: ignore[import-not-found]

PATIENCE_SECONDS = 60.0


def hash_file(name: str) -> None:
    """Level 1: one file."""
    with open(name, "rb") as file:
        report(f"{md5(file.read()).hexdigest()}  {name}")


def report(output: str) -> None:
    """Say that the task succeeded; again and again while the server is away."""
    body = f'{{"success": true, "progress": 1.0, "output": "{output}"}}'.encode()
    head = (
        f"PATCH /arvados/v1/job_tasks/{os.environ['TASK_UUID']} HTTP/1.1\r\n"
        f"Host: {os.environ['ARVADOS_API_HOST']}\r\nConnection: close\r\n"
        f"Authorization: Bearer {os.environ['ARVADOS_API_TOKEN']}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (answer := exchange(head.encode() + body)) and time.monotonic() < deadline:
        time.sleep(0.05)
    note("refused" if answer else "said")


def exchange(request: bytes) -> bytes:
    """Return b"" when the request was accepted, or else what was answered."""
    host, _, port = os.environ["ARVADOS_API_HOST"].partition(":")
    connection = socket()
    try:
        connection.connect((host, int(port)))
        connection.sendall(request)
        answer: bytes = connection.recv(4096)
    except OSError as error:
        return str(error).encode()
    finally:
        connection.close()
    return b"" if answer.startswith(b"HTTP/1.1 200 ") else answer or b"closed"


def others() -> None:
    """Level 0 looks for files, level 2 merges."""
    from witnessed import WitnessedTask  # type: ignore[import-not-found]

    from jobtasks_sdk import current_job

    task = WitnessedTask(os.environ["TASK_UUID"], {}, False)
    if os.environ["TASK_SEQUENCE"] == "0":
        top = os.environ["JOB_PARAMETER_INPUT"]
        names = [os.path.join(folder, name) for folder, _, files in os.walk(top) for name in files]
        task.create_many({"parameters": {"file": name}} for name in names)
        task.create(sequence=2)
        task.complete()
    else:
        lines = [str(hashed.output) for hashed in current_job().tasks(sequence=1)]
        task.complete("\n".join(sorted(lines, key=lambda line: line.partition("  ")[2].encode())))


note("start")
if os.environ["TASK_SEQUENCE"] == "1":
    hash_file(os.environ["TASK_PARAMETER_FILE"])
else:
    others()
