"""List parameters: grammar, types and messages. What they select is in tests/store."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core.errors import Invalid
from jobtasks.core.filters import Query, parse_query
from jobtasks.core.resources import RESOURCES

TASKS = RESOURCES["job_tasks"]


def parsed(**parameters: Any) -> Query:
    return parse_query(TASKS, parameters, 1000)


def test_defaults() -> None:
    """A hundred items, counted; the newest arrivals of tasks first, else what changed last."""
    query = parsed()
    assert (query.limit, query.offset, query.count, query.select) == (100, 0, True, None)
    order = [(key.attribute.name, key.descending) for key in query.order]
    assert order == [("id", True)]
    keys = parse_query(RESOURCES["jobs"], {}, 1000).order
    assert [(key.attribute.name, key.descending) for key in keys] == [
        ("modified_at", True),
        ("uuid", False),
    ]


@pytest.mark.parametrize("value", [5, "5"])
def test_limit_and_offset_take_numbers_and_digits(value: Any) -> None:
    """Both spellings; a limit past the maximum is lowered, silently."""
    assert (parsed(limit=value).limit, parsed(offset=value).offset) == (5, 5)
    assert parsed(limit=100_000).limit == 1000
    assert parsed(limit=0).limit == 0


@pytest.mark.parametrize("value", ["", "-1", -1, "0x10", "1five", 1.5, True, [], "9" * 30])
@pytest.mark.parametrize("name", ["limit", "offset"])
def test_bad_limits(name: str, value: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(Invalid, match=f"Invalid value for {name} parameter"):
        parsed(**{name: value})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"filters": "{"}, 'Could not parse "filters" param as an array'),
        ({"filters": {"a": 1}}, 'Could not parse "filters" param as an array'),
        ({"filters": ["x"]}, "x is not an array"),
        ({"filters": [["uuid", "="]]}, "is not a triple"),
        ({"filters": [["uuid", "<>", "x"]]}, "Invalid operator '<>'"),
        ({"filters": [["uuid", 1, "x"]]}, "Invalid operator '1'"),
        ({"filters": [["nothing", "=", "x"]]}, "Invalid attribute 'nothing' in filter"),
        ({"filters": [["progress", "=", 1]]}, "Invalid attribute 'progress' in filter"),
        ({"filters": [["etag", "=", "x"]]}, "Invalid attribute 'etag' in filter"),
        ({"filters": [[["uuid", 1], "=", "x"]]}, "Invalid attribute '1' in filter"),
        ({"filters": [["uuid", "=", 1]]}, "Invalid operand type 'number' for '=' operator"),
        ({"filters": [["uuid", "<", None]]}, "Invalid operand type 'null' for '<' operator"),
        ({"filters": [["uuid", "in", "x"]]}, "Invalid operand type 'text' for 'in' operator"),
        ({"filters": [["uuid", "in", [1]]]}, "Invalid operand type 'number'"),
        ({"filters": [["uuid", "like", None]]}, "Invalid operand type 'null'"),
        ({"filters": [["uuid", "is_a", 1]]}, "Invalid operand type 'number'"),
        ({"filters": [["success", "<", True]]}, "Invalid operator '<' for boolean"),
        ({"filters": [["success", "=", "maybe"]]}, "Invalid operand 'maybe'"),
        ({"filters": [["sequence", "=", "1five"]]}, "Invalid operand '1five' for integer"),
        ({"filters": [["sequence", "=", 1.5]]}, "Invalid operand '1.5' for integer"),
        ({"filters": [["sequence", "=", 2**64]]}, "for integer attribute 'sequence'"),
        ({"filters": [["sequence", "like", "1%"]]}, "Invalid operator 'like'"),
        ({"filters": [["created_at", "=", "soon"]]}, "Invalid operand 'soon'"),
        ({"filters": [["created_at", "=", 1]]}, "Invalid operand type 'number'"),
        ({"filters": [["any", "=", "x"]]}, "needs the operator like, ilike or @@"),
        ({"filters": [["any", "@@", " "]]}, "Invalid operand type 'text' for '@@'"),
        ({"filters": [["any", "@@", "x " * 200]]}, "at most 100 words"),
        ({"filters": [["parameters.a", "=", [1]]]}, "Invalid operand type 'array' for '='"),
        ({"filters": [["parameters.a", "<", None]]}, "Invalid operand type 'null' for '<'"),
        ({"filters": [["parameters.a", "<", True]]}, "Invalid operand type 'boolean' for '<'"),
        ({"filters": [["parameters.a", "=", 2**64]]}, "must fit into 64 bits"),
        ({"filters": [["parameters.a", "in", "x"]]}, "Invalid operand type 'text' for 'in'"),
        ({"filters": [["parameters.a", "in", [{}]]]}, "Invalid operand type 'object' for 'in'"),
        ({"filters": [["parameters.a", "like", 1]]}, "Invalid operand type 'number' for 'like'"),
        ({"filters": [["parameters.a", "like", "%" * 20_000]]}, "at most"),
        ({"filters": [["parameters.a", "exists", "x"]]}, "Invalid operand type 'text' for 'exi"),
        ({"filters": [["parameters.a", "is_a", "x"]]}, "Invalid operator 'is_a' for a key"),
        ({"filters": [["parameters", "exists", True]]}, "Invalid operand type 'boolean' for"),
        ({"filters": [["parameters", "contains", "x"]]}, "Invalid operator 'contains'"),
        ({"filters": [["output", "exists", "x"]]}, "Invalid attribute 'output' in filter"),
        ({"filters": [["output.x", "=", "x"]]}, "Invalid attribute 'output.x' in filter"),
        ({"filters": [["nothing.x", "=", "x"]]}, "Invalid attribute 'nothing.x' in filter"),
        ({"filters": [["command", "contains", ["x"]]]}, "Invalid operand type 'array'"),
        ({"where": "{"}, 'Could not parse "where" param as an object'),
        ({"where": [1]}, 'Could not parse "where" param as an object'),
        ({"where": {"progress": 1}}, "Invalid attribute 'progress' in filter"),
        ({"where": {"sequence": "first"}}, "Invalid operand 'first' for integer"),
        ({"filters": [["uuid", "like", "%" * 20_000]]}, "at most"),
        ({"filters": [["uuid", "=", "x"]] * 200}, "at most"),
        ({"select": []}, "Attribute selection list cannot be empty"),
        ({"select": ["uuid", "nothing"]}, "Invalid attribute"),
        ({"select": [1]}, "Invalid attribute"),
        ({"select": "uuid"}, 'Could not parse "select" param as an array'),
        ({"order": "[1"}, 'Could not parse "order" param as an array'),
        ({"order": ["uuid", ""]}, "Invalid element in order"),
        ({"order": [1]}, "Invalid element in order"),
        ({"count": "some"}, "count parameter must be 'exact' or 'none'"),
        ({"distinct": "TRUE"}, "distinct parameter must be a boolean"),
        ({"distinct": None}, "distinct parameter must be a boolean"),
    ],
)
def test_what_is_refused(parameters: dict[str, Any], message: str) -> None:
    """Each with a sentence that clients can match."""
    with pytest.raises(Invalid) as refusal:
        parsed(**parameters)
    assert message in refusal.value.messages[0]


@pytest.mark.parametrize("value", [None, "", [], "[]", "null"])
def test_no_filters(value: Any) -> None:
    """Nothing at all may be said in several ways."""
    assert parsed(filters=value).filters == ()


@pytest.mark.rule("R41")
def test_a_key_is_what_follows_the_first_dot() -> None:
    """Keys may have dots, and be spelled in angle brackets; old names of attributes count."""
    for name, key in (
        ("parameters.a", "a"),
        ("parameters.a.b", "a.b"),
        ("parameters.<a.b>", "a.b"),
        ("parameters.", ""),
        ("resource_limits.x", "x"),
    ):
        ((term,),) = parsed(filters=[[name, "=", 1]]).filters
        assert (term.attribute.kind, term.key, term.operand) == ("object", key, 1)
    assert parsed(filters=[["parameters", "exists", "a"]]) == parsed(
        filters=[["parameters.a", "exists", True]]
    )


@pytest.mark.rule("R41")
@pytest.mark.parametrize(
    ("where", "filters"),
    [
        (None, []),
        ("", []),
        ({"output": None}, [["output", "=", None]]),
        ({"output": "a", "sequence": 1}, [["output", "=", "a"], ["sequence", "=", 1]]),
        ('{"success": true}', [["success", "=", True]]),
        ({"output": ["a", None]}, [["output", "in", ["a", None]]]),
        ({"output": ["contains", "5%"]}, [["output", "like", "%5\\%%"]]),
        ({"output": ["contains", "a", "b"]}, [["output", "in", ["contains", "a", "b"]]]),
        ({"parameters": {"a": "b", "c": 1}}, [["parameters", "ilike", "%a%b%"]]),
        ({"sequence": 1.5, "nothing": 1, "any": "x", "kind": 0.5}, []),
        ({"id": 7}, [["id", "=", 7]]),
    ],
)
def test_where_is_the_old_form_of_filters(where: Any, filters: list[Any]) -> None:
    """Each pair is a filter; what is unknown there is ignored, as clients expect."""
    assert parsed(where=where) == parsed(filters=filters)
    both = parsed(where=where, filters=[["state", "=", "running"]])
    assert both == parsed(filters=[["state", "=", "running"], *filters])


def test_order_drops_what_it_does_not_know_and_what_is_not_selected() -> None:
    """Unknown columns, tables and directions; keys that are not selected; repeated ones."""
    order = "nothing,sequence up,users.uuid,qsequence desc,qsequence,kind"
    names = [key.attribute.name for key in parsed(order=order).order]
    assert names == ["qsequence", "modified_at", "uuid"]
    names = [key.attribute.name for key in parsed(order=["uuid", "sequence"]).order]
    assert names == ["uuid"]
    names = [key.attribute.name for key in parsed(order="sequence", select='["sequence"]').order]
    assert names == ["sequence"]


def test_select_counts_a_name_once_and_knows_old_names() -> None:
    """`kind`, `etag`, `href` may be listed."""
    chosen = parsed(select=["uuid", "uuid", "resource_limits", "kind"]).select
    assert chosen == ("uuid", "runtime_constraints", "kind")


def test_other_parameters_are_ignored() -> None:
    """Clients send alt=json and more."""
    assert parsed(alt="json", _profile="true", cluster_id="x") == parsed()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [*TASKS.attributes, "any", "id", "updated_at", "nothing", "parameters.a", "output.a"]
)
OPERATORS = st.sampled_from(
    ["=", "!=", "<", ">=", "like", "ilike", "in", "NOT IN", "is_a", "@@", "exists", "contains"]
)


@given(
    filters=st.lists(st.tuples(NAMES, OPERATORS, JSON).map(list), max_size=3),
    where=st.dictionaries(NAMES, JSON, max_size=3) | JSON,
    order=JSON,
)
def test_nothing_breaks_the_parser(filters: Any, where: Any, order: Any) -> None:
    """Whatever is asked is understood or refused, as values and as JSON text alike."""
    results: list[Any] = []
    for parameters in (
        {"filters": filters, "order": order, "where": where},
        {"filters": json.dumps(filters), "order": order, "where": where},
    ):
        try:
            results.append(parse_query(TASKS, parameters, 1000).filters)
        except Invalid as refusal:
            results.append(refusal.messages)
    assert results[0] == results[1]
