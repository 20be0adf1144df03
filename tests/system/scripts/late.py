#!/usr/bin/env -S python3 -S
"""A task that goes on when it counts for nothing any more, and notes what is answered to it.

In order, it creates a child, reports progress, and waits. When a file named after its attempt is
there it tries all that an attempt may do; when the job is to end it says that it succeeded. The
seed is an actor, the children succeed at once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from _socket import socket

from note import ATTEMPT, TASK, note  # type: ignore[import-not-found]

LIMIT_SECONDS = 600.0
OWN = f"/job_tasks/{TASK}"


def call(method: str, path: str, body: dict[str, object]) -> tuple[int, dict[str, object]]:
    """Return status and answer of a call; status 0 when there is none."""
    host, _, port = os.environ["ARVADOS_API_HOST"].partition(":")
    data = json.dumps(body).encode()
    head = (
        f"{method} /arvados/v1{path} HTTP/1.1\r\n"
        f"Host: {host}\r\nConnection: close\r\n"
        f"Authorization: Bearer {os.environ['ARVADOS_API_TOKEN']}\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    answer = b""
    connection = socket()
    try:
        connection.connect((host, int(port)))
        connection.sendall(head.encode() + data)
        while piece := connection.recv(65536):
            answer += piece
    except OSError:
        return 0, {}
    finally:
        connection.close()
    head, _, text = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), json.loads(text)


def say(words: str) -> None:
    """Write a line to both streams."""
    for stream in (sys.stdout, sys.stderr):
        print(words, file=stream, flush=True)


def begin() -> str:
    """Do what counts while the attempt lives; return the child's uuid."""
    status, child = call("POST", "/job_tasks", {})
    if status == 200:
        note("created", child["uuid"])
    call("PATCH", OWN, {"progress": 0.25})
    say(f"words of attempt {ATTEMPT}")
    note("ready", child.get("uuid", "none"))
    return str(child.get("uuid"))


def be_late(child: str) -> None:
    """Try everything."""
    say(f"late words of attempt {ATTEMPT}")
    late: dict[str, object] = {"parameters": {}}
    answers = [
        call("PATCH", OWN, {"progress": 0.5}),
        call("PATCH", OWN, {"output": f"late {ATTEMPT}"}),
        call("PUT", OWN, {"success": True, "log": "late"}),
        call("POST", "/job_tasks", late),
        call("POST", "/job_tasks", {"job_tasks": [late, late]}),
        call("DELETE", f"/job_tasks/{child}", {}),
        call("GET", OWN, {}),
    ]
    note("late", *(status for status, _ in answers))


def succeed() -> None:
    """Say so."""
    if call("PATCH", OWN, {"success": True, "output": f"{TASK} {ATTEMPT}"})[0] == 200:
        note("said")


def main() -> None:
    """Wait for what is to be done."""
    places = os.environ["JOB_PARAMETER_PLACES"]
    own, end = f"{places}/{TASK}-{ATTEMPT}", f"{places}/end"
    child = begin()
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if os.path.exists(end):
            succeed()
            return
        if os.path.exists(own):
            be_late(child)
            if int(os.environ["TASK_QSEQUENCE"]) % 2:
                return
            own = f"{places}/never"
        time.sleep(0.02)


if os.environ["TASK_SEQUENCE"] == "0":
    os.execv(f"{os.path.dirname(os.path.abspath(__file__))}/actor.py", ["actor.py"])
note("start")
if os.environ["TASK_SEQUENCE"] == "1":
    main()
else:
    succeed()
