"""The table of attributes and the type rules of what clients send."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core.errors import Invalid
from jobtasks.core.nesting import deeper_than
from jobtasks.core.resources import RESOURCES, FilterClass, Kind, attribute, coerce
from jobtasks.core.timestamps import parse_time, render_time

TASKS = RESOURCES["job_tasks"]
JOBS = RESOURCES["jobs"]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.rule("R42")
def test_a_task_has_the_attributes_of_the_seed_with_their_types() -> None:
    """Attributes as the specification names them, and those that every resource has."""
    kinds = {name: row.kind.value for name, row in TASKS.attributes.items()}
    seed = {
        "sequence": "integer",
        "parameters": "object",
        "runtime_constraints": "object",
        "output": "text",
        "progress": "float",
        "success": "boolean",
        "qsequence": "integer",
        "failed_count": "integer",
        "failed_at": "float",
        "failed_log": "text",
        "log": "text",
    }
    assert seed.items() <= kinds.items()
    common = {"href", "kind", "etag", "uuid", "owner_uuid", "created_at", "modified_at"}
    assert common <= kinds.keys() & JOBS.attributes.keys()
    ours = {name for name, row in TASKS.attributes.items() if not row.arvados}
    assert {"state", "attempts", "command"} <= ours


@pytest.mark.rule("R8")
@pytest.mark.parametrize(
    ("name", "given_value", "expected"),
    [
        *[("success", value, True) for value in (True, 1, "1", "true")],
        *[("success", value, False) for value in (False, 0, "0", "false")],
        ("success", None, None),
        ("sequence", 3, 3),
        ("sequence", "12", 12),
        ("sequence", "-1", -1),
        ("sequence", None, None),
        ("progress", 1, 1.0),
        ("progress", 0.25, 0.25),
        ("output", "a\nb", "a\nb"),
        ("output", "", ""),
        ("parameters", {"a": []}, {"a": []}),
        ("parameters", '{"a":1}', {"a": 1}),
        ("command", ["sh", ""], ["sh", ""]),
        ("started_at", "2014-01-01T00:00:00.000001000Z", 1388534400000001),
    ],
)
def test_values_that_count(name: str, given_value: Any, expected: Any) -> None:
    """Each spelling that the rules allow becomes the one value."""
    result = coerce(TASKS.attributes[name], given_value)
    assert result == expected
    assert type(result) is type(expected)


REFUSED: dict[str, list[Any]] = {
    "success": ["yes", "TRUE", "", 2, -1, 1.0, [], {}],
    "sequence": [True, 1.5, "1five", "", "0x1", 2**63, "9" * 21, []],
    "progress": [True, "1.0", "", [1], 10**400],
    "output": [1, True, ["a"], {}, "a\0b", "\ud800"],
    "parameters": [None, [], "", "[1]", "{", '{"a":NaN}', 1, True],
    "runtime_constraints": [[], "null", 0],
    "command": ["ls", [], [""], ["ls", 1], ["ls", None], ["a\0"], {}],
    "started_at": ["soon", "", 1, []],
    "job_uuid": ["x" * 256],
}


@pytest.mark.rule("R8")
@pytest.mark.parametrize("name", REFUSED)
def test_values_that_are_refused(name: str) -> None:
    """Anything else is refused with one sentence that begins with the attribute's name."""
    for value in REFUSED[name]:
        with pytest.raises(Invalid, match=f"^{name} must "):
            coerce(TASKS.attributes[name], value)


@pytest.mark.rule("R8")
@given(name=st.sampled_from(sorted(TASKS.attributes)), value=VALUES)
def test_no_value_makes_coerce_fail_otherwise(name: str, value: Any) -> None:
    """Whatever JSON brings is taken or refused; what was taken is of the attribute's kind."""
    row = TASKS.attributes[name]
    try:
        result = coerce(row, value)
    except Invalid as error:
        assert error.messages[0].startswith(name)
        return
    types: dict[Kind, type] = {
        Kind.STRING: str,
        Kind.TEXT: str,
        Kind.INTEGER: int,
        Kind.FLOAT: float,
        Kind.BOOLEAN: bool,
        Kind.OBJECT: dict,
        Kind.LIST: list,
        Kind.DATETIME: int,
    }
    assert result is None or type(result) is types[row.kind]


@pytest.mark.rule("R40")
def test_an_object_in_a_text_has_the_depth_of_a_body() -> None:
    """Text that holds JSON is no way around the limit on nesting."""
    deep = '{"a":' * 64 + "1" + "}" * 64
    assert coerce(TASKS.attributes["parameters"], deep)
    for text in ('{"a":' + deep + "}", '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"):
        with pytest.raises(Invalid):
            coerce(TASKS.attributes["parameters"], text)


def test_an_unknown_attribute_is_named() -> None:
    """The message is the one that Arvados gives."""
    with pytest.raises(Invalid, match="unknown attribute: paramaters"):
        attribute(TASKS, "paramaters")


@pytest.mark.rule("R30")
def test_resource_limits_is_the_old_name_of_runtime_constraints() -> None:
    """Old clients may use it."""
    assert attribute(TASKS, "resource_limits").name == "runtime_constraints"


def test_what_can_be_filtered_has_a_column() -> None:
    """No filter class without a column to filter on."""
    for resource in RESOURCES.values():
        for row in resource.attributes.values():
            assert row.column or row.filter_class is FilterClass.NONE


@given(value=VALUES)
def test_depth_is_that_of_the_deepest_container(value: Any) -> None:
    """Compared with a plain recursive count."""

    def depth(node: Any) -> int:
        children = node.values() if isinstance(node, dict) else node
        if not isinstance(node, dict | list):
            return 0
        return 1 + max((depth(child) for child in children), default=0)

    assert not deeper_than(value, depth(value))
    assert depth(value) == 0 or deeper_than(value, depth(value) - 1)


@given(microseconds=st.integers(min_value=0, max_value=4 * 10**15))
def test_times_survive_the_wire(microseconds: int) -> None:
    """What we render parses to the same microsecond; nine digits and a Z."""
    text = render_time(microseconds)
    assert parse_time(text) == microseconds
    assert len(text) == 30
    assert text.endswith("000Z")


def test_times_that_clients_write() -> None:
    """Dates, spaces, offsets, nanoseconds."""
    assert parse_time("2014-01-01") == 1388534400000000
    assert parse_time("2014-01-01 01:00:00") == parse_time("2014-01-01T00:00:00-01:00")
    assert parse_time("2014-01-01T00:00:00.123456789Z") == 1388534400123456
    assert msgspec.json.encode(parse_time("1970-01-01")) == b"0"
