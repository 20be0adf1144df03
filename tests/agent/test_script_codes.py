"""Scripts that come again are compiled once, and anew when they were changed (agent/codes.py)."""

from __future__ import annotations

import marshal
import os
from pathlib import Path

import pytest

from jobtasks.agent import codes
from jobtasks.agent.births import MARSHAL_VERSION


def order(path: str, *arguments: str, n: int = 0) -> bytes:
    """Return an order as the agent sends it, its environment telling which."""
    line = ["python3", path, *arguments]
    return marshal.dumps((line, {b"TASK": b"%d" % n}, b"name", b"", b""), MARSHAL_VERSION)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that counts as written long ago."""
    monkeypatch.setattr(codes, "SETTLED_NS", -codes.SETTLED_NS)
    path = tmp_path / "script.py"
    path.write_text("value = 1\n")
    return path


def value_of(scripts: codes.Scripts, asked: bytes) -> object:
    """Return what the script's code sets, None when it has none."""
    found: dict[str, object] = {}
    code = scripts.code(asked)
    if code is None:
        return None
    exec(code, found)
    return found["value"]


def learned(path: Path | str, *arguments: str) -> codes.Scripts:
    """Return what is known after a line was asked for twice."""
    scripts = codes.Scripts()
    for n in range(2):
        assert scripts.code(order(str(path), *arguments, n=n)) is None
        scripts.learn(order(str(path), *arguments, n=n))
    return scripts


def test_the_third_time_a_script_is_compiled(script: Path) -> None:
    """By the whole line, whatever else differs; not for another line."""
    scripts = learned(script, "x")
    code = scripts.code(order(str(script), "x", n=3))
    assert code is not None and code.co_filename == str(script)
    assert value_of(scripts, order(str(script), "x", n=4)) == 1
    assert scripts.code(order(str(script), n=3)) is None


@pytest.mark.parametrize("keeps_times", [False, True])
def test_a_changed_script_is_compiled_anew(script: Path, keeps_times: bool) -> None:
    """By who runs it, once; also when its times say that nothing was changed, or it is another."""
    scripts, seen = learned(script), script.stat()
    if keeps_times:
        other = script.with_suffix(".new")
        other.write_text("value = 2\n")
        os.utime(other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        other.rename(script)
    else:
        script.write_text("value = 2\n")
    asked = order(str(script), n=7)
    assert value_of(scripts, asked) is None
    scripts.learn(asked)
    assert value_of(scripts, asked) == 2
    script.unlink()
    assert value_of(scripts, asked) is None


def test_a_script_that_was_just_written_is_left_alone(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be written again in the same moment."""
    monkeypatch.setattr(codes, "SETTLED_NS", 10**15)
    assert value_of(learned(script), order(str(script))) is None


@pytest.mark.parametrize(
    "text",
    [
        "value = (\n",
        'value = "\\d"\n',
        "value = 1 is 1\n",
        "value = '\0'\n",
        "value = 1\n" + "#" * codes.SCRIPT_BYTES_MAX,
    ],
)
def test_what_python_has_to_say_something_about_is_compiled_by_who_runs_it(
    script: Path, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is said here, and it is not tried again."""
    script.write_text(text)
    scripts = learned(script)
    assert value_of(scripts, order(str(script))) is None
    (known,) = scripts._known.values()
    assert known.is_as_seen()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("first", ["-c", "-m", "/nowhere/script.py", "a\0b"])
def test_what_is_no_script_has_no_code(first: str) -> None:
    """Nor has what is not there."""
    assert learned(first, "pass").code(order(first, "pass")) is None


def test_the_newest_lines_are_remembered(script: Path) -> None:
    """So many."""
    scripts = learned(script)
    for n in range(codes.LINES_MAX):
        assert value_of(scripts, order(str(script))) == 1
        scripts.learn(order(str(script), str(n)))
    assert value_of(scripts, order(str(script))) is None
