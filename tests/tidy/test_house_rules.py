"""The rules of the house, kept by a test: where imports may point, how long things may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "jobtasks"
SDK = ROOT / "src" / "jobtasks_sdk"

MAY_IMPORT = {
    "core": {"core"},
    "protocol": {"protocol"},
    "store": {"core", "store"},
    "engines": {"core", "protocol", "engines"},
    "service": {"core", "store", "protocol", "engines", "service"},
    "agent": {"protocol", "agent"},
    "api": {"core", "store", "protocol", "engines", "service", "api"},
    "web": {"core", "store", "protocol", "engines", "service", "api", "web"},
    "cli": {"core", "store", "protocol", "engines", "service", "api", "web", "cli"},
    "testing": {"core", "store", "protocol", "engines", "service", "agent", "api", "testing"},
}
"""What a folder may import of ours: imports point one way (docs/explanation/design.md)."""

PURE = {"core", "protocol"}
IMPURE_MODULES = {
    *("asyncio", "http", "os", "pathlib", "random", "secrets", "select", "socket", "sqlite3"),
    *("subprocess", "threading", "time", "httpx", "starlette", "uvicorn"),
}
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
TEST_MODULE_LINES_MAX = 800
VAGUE_NAMES = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py", "tools.py"}
SQL = re.compile(r"\b(SELECT .+ FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM)\b")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write imports from the top, they show their direction"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_imports_point_one_way(folder: str) -> None:
    """A folder imports only what stands above it."""
    wrong = []
    for path in sources(f"src/jobtasks/{folder}"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "jobtasks" and len(parts) > 1 and parts[1] not in MAY_IMPORT[folder]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
            if parts[0] == "jobtasks_sdk":
                wrong.append(f"{path.relative_to(ROOT)} imports the SDK")
    assert not wrong


def test_every_folder_has_its_place() -> None:
    """A new folder must be given its place in the order of imports."""
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders <= MAY_IMPORT.keys()


def test_rules_are_pure() -> None:
    """core and protocol know no clock, no randomness, no I/O."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in sorted(PURE)
        for path in sources(f"src/jobtasks/{folder}")
        for name in imports(path)
        if name.split(".")[0] in IMPURE_MODULES
    ]
    assert not wrong


def test_sdk_needs_the_standard_library_alone() -> None:
    """The SDK imports nothing of ours and nothing from outside the standard library."""
    wrong = [
        f"{path.name} imports {name}"
        for path in SDK.rglob("*.py")
        for name in imports(path)
        if name.split(".")[0] not in sys.stdlib_module_names | {"jobtasks_sdk"}
    ]
    assert not wrong


def test_keeper_stands_alone() -> None:
    """The keeper and what it uses need the standard library alone and stay small."""
    parts = ("keeper", "freezer", "group_files")
    ours = {f"jobtasks.agent.{name}" for name in parts} | {"jobtasks.agent"}
    for path in (PACKAGE / "agent" / f"{name}.py" for name in parts):
        names = [name for name in imports(path) if name not in ours]
        names = [name for name in names if name.rpartition(".")[0] not in ours - {"jobtasks.agent"}]
        assert not [name for name in names if name.split(".")[0] not in sys.stdlib_module_names]
        assert len(path.read_text().splitlines()) < 200


def test_functions_fit_on_a_page() -> None:
    """No function is longer than 70 lines."""
    wrong = []
    for path in sources("src", "tests", "bench", "examples"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    wrong.append(f"{path.relative_to(ROOT)}: {node.name} has {length} lines")
    assert not wrong


def test_modules_stay_small() -> None:
    """No module of the product is longer than 500 lines, no test module longer than 800."""
    wrong = []
    for path in sources("src", "tests", "bench", "examples"):
        limit = TEST_MODULE_LINES_MAX if "tests" in path.parts else MODULE_LINES_MAX
        length = len(path.read_text().splitlines())
        if length > limit:
            wrong.append(f"{path.relative_to(ROOT)} has {length} lines")
    assert not wrong


def test_names_say_what_is_inside() -> None:
    """No module is called utils, helpers or common."""
    assert not [path for path in sources("src", "tests", "bench") if path.name in VAGUE_NAMES]


def test_statements_live_in_the_store() -> None:
    """SQL stands under store/ and nowhere else."""
    wrong = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in sources("src")
        if path.relative_to(PACKAGE.parent).parts[:2] != ("jobtasks", "store")
        if (match := SQL.search(path.read_text()))
    ]
    assert not wrong


def test_nothing_is_left_to_do_in_the_code() -> None:
    """What is to be done stands in an issue, not in a comment."""
    marks = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
    wrong = [
        str(path) for path in sources("src", "tests", "bench") if marks.search(path.read_text())
    ]
    assert not wrong


def test_test_modules_have_names_of_their_own() -> None:
    """Two test modules of one name would shadow each other in reports."""
    names = [path.name for path in sources("tests") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


def test_lock_names_no_host() -> None:
    """The lock pins by hash and ties nobody to one index."""
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--hash=sha256:" in lock


def test_no_path_of_a_machine_is_committed() -> None:
    """Files of the project name no home directory and no checkout of anybody's."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout: there is no list of the project's files")
    private = re.compile(r"/(home|Users)/\w+/|/ro[o]t/|" + re.escape(str(ROOT)) + r"\b")
    wrong = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and private.search(path.read_text(errors="replace")):
            wrong.append(name)
    assert not wrong
