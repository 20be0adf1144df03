"""How a fork of the fork server becomes a program of Python: what Python itself does around one.

Used by `forkserver` alone, in the interpreter of the tasks (3.8 or newer); standard library only.
"""

# pathlib would cost memory that each fork pays for:
# ruff: noqa: PTH109, PTH120, PTH123

from __future__ import annotations

import _io
import atexit
import contextlib
import ctypes
import gc
import marshal
import os
import signal
import sys
import weakref
from importlib.machinery import BuiltinImporter, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType, TracebackType
    from typing import Any, NoReturn


PR_SET_NAME = 15
COERCED = b"LC_CTYPE"
TRY_AGAIN = 75
"""When the server died in the moment of the fork: nobody's fault, and nothing was done."""
CANNOT_OPEN = 2
"""Python's exit code when there is no such script."""
ENDED_BY_SIGINT = -int(signal.SIGINT)

exit_process = ctypes.PyDLL(None).exit
"""The C library's exit(3), in which no other thread of Python can run; made here, for once."""


class Shown:
    """A part of this process's memory that /proc shows: its command line, its environment."""

    def __init__(self, first: int, end: int) -> None:
        self._first = first
        self._size = self._used = end - first

    def show(self, text: bytes) -> None:
        """Have this shown, as much as there is room for, and a NUL at its end."""
        text = text[: self._size - 1] + b"\0"
        length = max(len(text), self._used)
        ctypes.memmove(self._first, text.ljust(length, b"\0"), min(length, self._size))
        self._used = len(text)


class Appearance:
    """What others see of this process: command line, name and environment.

    `room`: the variable with which it was started to have room for other environments.
    """

    def __init__(self, room: str) -> None:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        first, middle, start, end = (int(field) for field in fields[45:49])
        os.environ.pop(room, None)
        # The C library points to the very bytes that will be overwritten, but not when set anew.
        for name, value in list(os.environb.items()):
            os.environb[name] = value
        self._line, self._variables = Shown(first, middle), Shown(start, end)
        self._libc = ctypes.CDLL(None)

    def show(self, name: bytes, line: bytes, variables: bytes) -> None:
        """Look like that; `line` and `variables`: parted by NULs."""
        self._line.show(line)
        self._variables.show(variables)
        self._libc.prctl(PR_SET_NAME, name, 0, 0, 0)


class Known:
    """The modules that a server has, and its forks from it."""

    def __init__(self) -> None:
        self.names = frozenset(sys.modules)
        self.last = next(reversed(sys.modules))
        """The one that came last."""


class Task:
    """What a child needs to know to become its program."""

    def __init__(
        self,
        order: bytes,
        fds: list[int],
        waits: int,
        appearance: Appearance,
        known: Known,
        code: CodeType | None,
    ) -> None:
        self._order = order
        self.line: list[str] = []
        """The command line."""
        self.fds = fds
        """stdin, stdout, stderr, working directory, and perhaps the control group."""
        self.waits = waits
        """To be read before it may begin."""
        self.appearance = appearance
        self.known = known
        """The modules that it has from the server."""
        self.code = code
        """That of its script, if the server has it."""

    def settle(self) -> None:
        """Take its place among processes; returns when the agent knows of it."""
        self.line, variables, name, *shown = marshal.loads(self._order)
        take_environment(variables)
        # Before it leaves the server's session: nobody is to take it for another server.
        self.appearance.show(name, *shown)
        os.setsid()
        for number, fd in enumerate(self.fds[:3]):
            os.dup2(fd, number)
        os.fchdir(self.fds[3])
        for fd in self.fds:
            os.close(fd)
        differ()
        if not os.read(self.waits, 1):
            os._exit(TRY_AGAIN)
        os.close(self.waits)


def take_environment(variables: dict[bytes, bytes]) -> None:
    """Have these variables, for Python and for the C library.

    Past the methods of `os.environ`: these would copy twice as many pages.
    """
    here: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    if COERCED in here:
        # By Python itself at the start, where the environment is the old language C.
        variables.setdefault(COERCED, here[COERCED])
    for name in here.keys() - variables.keys():
        os.unsetenv(name)
    for name, value in variables.items():
        if here.get(name) != value:
            os.putenv(name, value)
    here.clear()
    here.update(variables)


def differ() -> None:
    """Make anew what modules make once by chance, and would else be the same in every task.

    `random` sees to it by itself.
    """
    if (numpy := sys.modules.get("numpy.random")) is not None:
        numpy.seed()
    if (processes := sys.modules.get("multiprocessing.process")) is not None:
        processes.current_process().authkey = os.urandom(32)


def run(task: Task) -> NoReturn:
    """Be the task: ``python WORDS...`` from its first line to its exit code."""
    task.settle()
    status, caught = 0, None
    try:
        status = execute(task.line, task.code)
    except BaseException as error:
        caught = error
    if caught is not None:
        # Not above: what happens in there has nothing to do with it.
        status = report(caught)
        del caught
    finish(status, task.known)


def execute(line: list[str], ready: CodeType | None) -> int:
    """Run what a command line has after the interpreter's name: a script, code, or a module.

    `ready`: the script's code, if it is known. Return an exit code.
    """
    words = line[1:]
    first = words[0]
    sys.argv = [first, *words[2:]] if first in ("-c", "-m") else list(words)
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = line
    main = fresh_main()
    if first == "-m":
        look_first(os.getcwd())
        import runpy

        # As Python does it: its frames are in the tracebacks of such programs.
        runpy._run_module_as_main(words[1])  # type: ignore[attr-defined]
        return 0
    try:
        is_text = first == "-c"
        code = command_code(words[1], main) if is_text else script_code(first, main, ready)
    except OSError as error:
        what = f"can't open file {first!r}: [Errno {error.errno}] {error.strerror}"
        sys.stderr.write(f"{sys.executable}: {what}\n")
        return CANNOT_OPEN
    variables = vars(main)
    del main
    exec(code, variables)
    return 0


def fresh_main() -> ModuleType:
    """Replace `__main__`, which is the server's, by a new one."""
    main = type(sys)("__main__")
    vars(main).update(__builtins__=sys.modules["builtins"], __loader__=BuiltinImporter)
    if sys.version_info < (3, 14):
        vars(main)["__annotations__"] = {}
    sys.modules["__main__"] = main
    return main


def look_first(place: str) -> None:
    """Look for modules there before anywhere else, where Python does so."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, place)


def command_code(text: str, main: ModuleType) -> CodeType:
    """Return the code of ``-c TEXT``."""
    look_first("")
    if sys.version_info >= (3, 14):
        import textwrap

        text = textwrap.dedent(text)
    if sys.version_info >= (3, 13):
        import linecache

        # There tracebacks show it.
        lines = [line + "\n" for line in text.splitlines()]
        linecache.cache["<string>"] = (len(text), None, lines, "<string>")
    return compile(text + "\n", "<string>", "exec", dont_inherit=True)


def script_code(path: str, main: ModuleType, ready: CodeType | None) -> CodeType:
    """Return the code of a script, `ready` if it is; errors: OSError."""
    text = b""
    if ready is None:
        with open(path, "rb") as file:
            text = file.read()
    look_first(os.path.dirname(os.path.realpath(path)))
    vars(main).update(__file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path))
    return ready or compile(text, path, "exec", dont_inherit=True)


def report(error: BaseException) -> int:
    """Do with an exception that nobody caught what Python does; return the exit code."""
    if isinstance(error, SystemExit):
        return exit_status(error)
    trace = strip(error)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    try:
        sys.excepthook(type(error), error, trace)
    except SystemExit as end:
        return exit_status(end)
    except BaseException as failure:
        for text, each in (
            ("Error in sys.excepthook:\n", failure),
            ("\nOriginal exception was:\n", error),
        ):
            sys.stderr.write(text)
            sys.__excepthook__(type(each), each, strip(each))
    return ENDED_BY_SIGINT if isinstance(error, KeyboardInterrupt) else 1


def strip(error: BaseException) -> TracebackType | None:
    """Take our frames off the top of an exception's traceback; return the rest."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error.__traceback__ = trace
    return trace


def exit_status(end: SystemExit) -> int:
    """Return the exit code that a SystemExit stands for; its text goes to stderr."""
    code = end.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code if -(2**63) <= code < 2**63 else -1 & 0xFF
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{code}\n")
    return 1


def finish(status: int, known: Known) -> NoReturn:
    """End as Python does: threads, exit handlers, the task's own objects, buffers, C library.

    Python would also take apart what the server has imported, and so copy nearly every page that
    it shares with it: that is most of what such a process costs.
    """
    try:
        wait_for_threads()
    except BaseException as error:
        report(error)
    # It tells of errors itself; old ones raise the last once more.
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    if not flushed() or len(sys._current_frames()) > 1:
        # Rare, and Python knows what to do then.
        end_plainly(status)
    forget_modules(known)
    flush_files()
    flushed()
    if status == ENDED_BY_SIGINT:
        interrupt()
    # Not os._exit: libraries in C have exit handlers, too.
    exit_process(status & 0xFF)
    raise AssertionError("it has ended")


def wait_for_threads() -> None:
    """Wait until all threads but daemons have ended."""
    if (threading := sys.modules.get("threading")) is not None:
        threading._shutdown()


def interrupt() -> None:
    """End by the signal."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def end_plainly(status: int) -> NoReturn:
    """End by Python's own means."""
    if status == ENDED_BY_SIGINT:
        interrupt()
    sys.exit(status & 0xFF)


def flushed() -> bool:
    """Write what stdout and stderr still hold; return whether stdout has taken it."""
    done = True
    for file in (sys.stderr, sys.stdout):
        try:
            if file is not None and not file.closed:
                file.flush()
        except Exception:
            done = file is not sys.stdout
    return done


def forget_modules(known: Known) -> None:
    """Let go of all modules that the task has imported, in Python's order: first their names."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            setattr(sys, name, None)
    left = []
    for name in (*own_modules(known), "__main__"):
        found = sys.modules.pop(name, None)
        if isinstance(found, type(sys)):
            left.append(weakref.ref(found))
        del found
    gc.collect()
    for reference in reversed(left):
        if (module := reference()) is not None:
            clear(vars(module))


def own_modules(known: Known) -> list[str]:
    """Return the names of modules that the server does not know, the oldest first.

    They stand behind those that it knows. These are not looked at: to hold a name for a moment is
    to write to it, and so to copy the page that it is on.
    """
    found, passed = [], 0
    for name in reversed(sys.modules):
        if name not in known.names:
            found.append(name)
        else:
            passed += 1
            if name == known.last:
                break
    found.reverse()
    if len(sys.modules) - len(found) == len(known.names) and passed == 1:
        return found
    # Some were taken out, and perhaps put in again, behind others.
    return [name for name in sys.modules if name not in known.names]


def clear(names: dict[str, Any]) -> None:
    """Set a module's names to None: first those with one underscore, then the others."""
    for name in list(names):
        if name.startswith("_") and not name.startswith("__"):
            names[name] = None
    for name in list(names):
        if name != "__builtins__":
            names[name] = None


def flush_files() -> None:
    """Write what files still hold that nobody has closed."""
    for thing in gc.get_objects():
        # Not isinstance: it asks the thing.
        if issubclass(type(thing), _io._IOBase):
            with contextlib.suppress(Exception):
                thing.flush()
