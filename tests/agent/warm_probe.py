"""What a program of Python can see of itself, as JSON: the same, however it was started."""

import gc
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from typing import Any


def kind(fd: int) -> str:
    mode = os.fstat(fd).st_mode
    return "pipe" if stat.S_ISFIFO(mode) else "device" if stat.S_ISCHR(mode) else oct(mode)


def status(*names: str) -> Any:
    with open("/proc/self/status") as file:
        lines = (line.split(":", 1) for line in file)
        return {name: value.split() for name, value in lines if name in names}


def shown(name: str) -> Any:
    with open("/proc/self/" + name, "rb") as file:
        return [part.decode() for part in file.read().split(b"\0") if part]


def stream(file: Any) -> Any:
    names = ("name", "mode", "encoding", "errors", "newlines", "line_buffering", "write_through")
    return [str(getattr(file, name)) for name in names] + [file.isatty(), file.fileno()]


def attributes(module: Any) -> Any:
    texts = {name: repr(value) for name, value in vars(module).items() if name.startswith("__")}
    return {name: text.partition(" at 0x")[0] for name, text in sorted(texts.items())}


def numbers(name: Any) -> Any:
    return {each for each in signal.Signals if signal.getsignal(each) == name}


import __main__  # noqa: E402

print(
    json.dumps(
        {
            "argv": sys.argv,
            "orig_argv": getattr(sys, "orig_argv", None),
            "path": sys.path,
            "executable": sys.executable,
            "prefix": sys.prefix,
            "flags": str(sys.flags),
            "options": [sys.warnoptions, sys._xoptions, sys.dont_write_bytecode],
            "main": attributes(__main__),
            "own name": __name__,
            "environment": dict(os.environ),
            "for children": sorted(subprocess.check_output("env").decode().splitlines()),
            "shown": sorted(shown("environ")),
            "line": [os.path.basename(word) for word in shown("cmdline")][:2],
            "name": shown("comm"),
            "fds": {fd: kind(fd) for fd in range(3)},
            "others": sorted(set(map(int, os.listdir("/proc/self/fd"))) - {0, 1, 2})[1:],
            "streams": [stream(file) for file in (sys.stdin, sys.stdout, sys.stderr)],
            "own streams": sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__,
            "cwd": os.getcwd(),
            "umask": status("Umask"),
            "signals": status("SigBlk", "SigIgn", "SigCgt"),
            "handlers": [sorted(numbers(kind)) for kind in (signal.SIG_IGN, signal.SIG_DFL)],
            "session": os.getsid(0) == os.getpgid(0) == os.getpid(),
            "limits": [resource.getrlimit(number) for number in range(10)],
            "priority": [os.nice(0), sorted(os.sched_getaffinity(0))],
            "gc": [gc.isenabled(), gc.get_threshold(), gc.get_debug()],
            "threads": [threading.active_count(), threading.current_thread().name],
            "main thread": threading.current_thread() is threading.main_thread(),
            "native id": threading.get_native_id() == os.getpid(),
            "encodings": [sys.getfilesystemencoding(), sys.getdefaultencoding()],
            "hook": sys.excepthook is sys.__excepthook__,
            "traced": [sys.gettrace(), sys.getprofile()],
            "recursion": sys.getrecursionlimit(),
            "warm": "colorsys" in sys.modules,
        },
        sort_keys=True,
    )
)
