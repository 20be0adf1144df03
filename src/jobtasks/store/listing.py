"""Statements for list calls: composed from the resource table's columns and bound values only.

A page is read in two steps: the ids of its rows, in order, without the wide columns; then these
rows. So a page costs what it shows, and a job's tasks in order of arrival are read where they lie:
conditions on qsequence are ranges of the primary key. By level they are read from an index, as are
those that failed or wrote success=false.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from jobtasks.core.filters import Condition, Order, Query, Term
from jobtasks.core.identifiers import JOB_SHIFT
from jobtasks.core.resources import Kind
from jobtasks.core.states import TaskState
from jobtasks.store.base import Value
from jobtasks.store.counting import counted, counted_of_all
from jobtasks.store.records import (
    JobRecord,
    LogRecord,
    NodeRecord,
    TaskRecord,
    TokenRecord,
    UserRecord,
)

WIDE = frozenset({"output", "failed_log", "log", "description", "node_uuids"})
"""Columns that are large or looked up: read when a select asks for them; each may be null."""
CREATED_BY = (
    "batch_id IN (SELECT id FROM batch WHERE creator_task_id IN (SELECT id FROM task WHERE {}))"
)
"""Finds children from their creators; the view's outer join would have every task looked at."""
UNWELL = "(state = 3 OR failed_count > 0)"
"""As the index of what failed says it: a job's few are found among its many."""
OF_ANY_STATE = "state >= 0"
"""A bound on its second column, without which another index seems as good."""
OWNED_TASKS = (
    "id IN (SELECT t.id FROM job AS j CROSS JOIN task AS t"
    " ON t.id >= j.id << {shift} AND t.id < (j.id + 1) << {shift} WHERE j.owner_uuid = {owner})"
)
"""Finds tasks from their owner's jobs, in this order: a list looks at no one else's tasks."""
RECORDS: Mapping[
    str,
    type[JobRecord]
    | type[TaskRecord]
    | type[UserRecord]
    | type[TokenRecord]
    | type[NodeRecord]
    | type[LogRecord],
] = {
    "jobs": JobRecord,
    "job_tasks": TaskRecord,
    "users": UserRecord,
    "api_client_authorizations": TokenRecord,
    "nodes": NodeRecord,
    "logs": LogRecord,
}


PLACE_BITS = 16
"""An entry of a log belongs to the row of events that its id names without so many bits."""
OF_NODE = "substr(object_uuid, 7, 5) = '7ekkf'"
"""What happens to nodes may be seen by all people."""


class Scope(NamedTuple):
    """What the caller may see; None: no such bound."""

    owner_uuid: str | None = None
    job_id: int | None = None


class Statement(NamedTuple):
    """A reading statement and its bound values."""

    sql: str
    values: dict[str, Value]


@dataclass(slots=True)
class _Values:
    """Values bound so far; the names are ours."""

    bound: dict[str, Value] = field(default_factory=dict)

    def bind(self, value: Value, kind: str = "v") -> str:
        """Return the placeholder of `value`; its name begins with `kind`."""
        name = f"{kind}{len(self.bound)}"
        self.bound[name] = int(value) if isinstance(value, bool) else value
        return f":{name}"

    def bind_all(self, values: tuple[Any, ...], kind: str = "") -> str:
        """Return a subquery that yields `values`: one placeholder, however many there are.

        Its name tells what they are, which matters to PostgreSQL: texts, ids, or numbers of any
        kind.
        """
        if not kind:
            kind = "t" if any(isinstance(item, str) for item in values) else "v"
            kind = "n" if any(isinstance(item, float) for item in values) else kind
        plain = [int(item) if isinstance(item, bool) else item for item in values]
        listed = msgspec.json.encode(plain).decode()
        return f"(SELECT value FROM json_each({self.bind(listed, kind)}))"


def named_job(query: Query) -> str | None:
    """Return the job whose tasks alone the query asks for, None when it names no single one."""
    if query.resource.name != "job_tasks":
        return None
    for condition in query.filters:
        if _names_job(condition):
            return str(condition[0].operand)
    return None


def _names_job(condition: Condition) -> bool:
    term = condition[0]
    return (
        len(condition) == 1
        and term.attribute.name == "job_uuid"
        and term.operator == "="
        and isinstance(term.operand, str)
    )


def job_id_statement(uuid: str) -> Statement:
    """Return the statement for the id and the owner of one job."""
    return Statement("SELECT id, owner_uuid FROM job WHERE uuid = :uuid", {"uuid": uuid})


def page_statement(query: Query, scope: Scope) -> Statement:
    """Return the statement for the ids of the page's rows, in order.

    `scope.job_id` must be the id of `named_job` when the query names one.
    """
    values = _Values()
    where = _where(query, scope, values)
    limit, offset = values.bind(query.limit), values.bind(query.offset)
    groups = _distinct_columns(query)
    if groups:
        firsts = f"SELECT min(id) FROM {query.resource.view}{where} GROUP BY {', '.join(groups)}"
        where = f" WHERE id IN ({firsts})"
    chosen = f"id FROM {query.resource.view}{where}"
    order = _order_by(query, one_job=scope.job_id is not None)
    return Statement(f"SELECT {chosen}{order} LIMIT {limit} OFFSET {offset}", values.bound)


def count_statement(query: Query, scope: Scope) -> Statement:
    """Return the statement that counts all rows that match."""
    quick = quick_count_statement(query, scope)
    if quick is not None:
        return quick
    values = _Values()
    where = _where(query, scope, values)
    groups = _distinct_columns(query)
    rows = f"{query.resource.view}{where}"
    if groups:
        rows = f"(SELECT 1 FROM {rows} GROUP BY {', '.join(groups)}) AS chosen"
    return Statement(f"SELECT count(*) FROM {rows}", values.bound)


def quick_count_statement(query: Query, scope: Scope) -> Statement | None:
    """Return the statement that counts tasks from counters; None: only their rows say it."""
    if query.resource.name != "job_tasks" or query.distinct:
        return None
    if scope.job_id is None:
        return None if query.filters else Statement(*counted_of_all(scope.owner_uuid))
    quick = counted(_own_conditions(query), scope.job_id)
    return None if quick is None or scope.owner_uuid is not None else Statement(quick, {})


def rows_statement(query: Query, ids: list[int]) -> Statement:
    """Return the statement that reads the records with these ids, in any order."""
    values = _Values()
    columns = ", ".join(_column(query, name) for name in RECORDS[query.resource.name]._fields)
    chosen = values.bind_all(tuple(ids))
    sql = f"SELECT {columns} FROM {query.resource.view} WHERE id IN {chosen}"
    if query.resource.name == "logs":
        sql += f" AND event_id IN {values.bind_all(tuple({row >> PLACE_BITS for row in ids}))}"
    return Statement(sql, values.bound)


def _column(query: Query, name: str) -> str:
    wanted = query.select is None or name in query.select or name not in WIDE
    return name if wanted else f"NULL AS {name}"


def _distinct_columns(query: Query) -> list[str]:
    if not query.distinct or query.select is None or "uuid" in query.select:
        return []
    chosen = (query.resource.attributes[name].column for name in query.select)
    return [column for column in chosen if column]


def reuse_statement(
    query: Query, scope: Scope, digest: str, command: str | None, owner_uuid: str, limit: int
) -> Statement:
    """Return the statement for the jobs that one like `query`, just submitted, could be (R41).

    The columns are those of `Candidate`; Running, Queued, then Complete, each oldest first.
    """
    values = _Values()
    where = _where(query, scope, values)
    fixed = (
        f"script_parameters_digest = {values.bind(digest)}"
        f" AND command IS {values.bind(command)}"
        " AND nondeterministic IS NOT 1"
        " AND (state = 'Complete'"
        f" OR (state IN ('Queued', 'Running') AND owner_uuid = {values.bind(owner_uuid)}))"
    )
    order = "ORDER BY state DESC, created_at, id"
    found = (
        "SELECT id, uuid, state, output, output_truncated, created_at"
        f" FROM counted_job{where or ' WHERE 1 = 1'} AND {fixed} {order} LIMIT {values.bind(limit)}"
    )
    same = "CASE WHEN output IS NOT NULL THEN min(id) OVER (PARTITION BY output) END"
    sql = f"SELECT uuid, state, {same}, output_truncated FROM ({found}) AS found {order}"
    return Statement(sql, values.bound)


# -- conditions ------------------------------------------------------------------------------------


def _where(query: Query, scope: Scope, values: _Values) -> str:
    job_id = scope.job_id if query.resource.name == "job_tasks" else None
    is_log = query.resource.name == "logs"
    conditions = query.filters if job_id is None else _own_conditions(query)
    parts = [
        " OR ".join(_term(term, values, job_id, is_log=is_log) for term in condition)
        for condition in conditions
    ]
    if scope.owner_uuid is not None:
        parts.append(_of_owner(query, scope, values))
    if scope.job_id is not None:
        parts.append(_of_job(query, scope.job_id, values))
    return " WHERE " + " AND ".join(f"({part})" for part in parts) if parts else ""


def _own_conditions(query: Query) -> list[Condition]:
    """Return the conditions but those that the scope's job says already."""
    named = named_job(query)
    return [
        condition
        for condition in query.filters
        if not (_names_job(condition) and condition[0].operand == named)
    ]


def _of_owner(query: Query, scope: Scope, values: _Values) -> str:
    """Return the condition for what belongs to the scope's owner; a user's own record does."""
    owner = values.bind(scope.owner_uuid)
    if query.resource.name == "users":
        return f"uuid = {owner}"
    if query.resource.name == "logs":
        return f"{owner} IN (owner_uuid, object_owner_uuid) OR {OF_NODE}"
    if query.resource.name == "job_tasks" and scope.job_id is None:
        return OWNED_TASKS.format(shift=JOB_SHIFT, owner=owner)
    return f"owner_uuid = {owner}"


def _of_job(query: Query, job_id: int, values: _Values) -> str:
    """Return the condition for the rows of one job: tasks lie together by id."""
    if query.resource.name in ("jobs", "logs"):
        return f"{'id' if query.resource.name == 'jobs' else 'job_id'} = {values.bind(job_id)}"
    if _reads_an_index(query):
        return f"job_id = {values.bind(job_id)}"
    unwell = {term.attribute.name for (term, *more) in query.filters if not more and _fails(term)}
    if unwell:
        state = "" if "state" in unwell else f" AND {OF_ANY_STATE}"
        return f"job_id = {values.bind(job_id)} AND {UNWELL}{state}"
    first, beyond = job_id << JOB_SHIFT, (job_id + 1) << JOB_SHIFT
    return f"id >= {values.bind(first)} AND id < {values.bind(beyond)}"


def _reads_an_index(query: Query) -> bool:
    """Return whether a job's tasks are read by level, or those that wrote success=false."""
    by_level = bool(query.order) and query.order[0].attribute.name == "sequence"
    return by_level or any(
        len(condition) == 1
        and condition[0].operator == "="
        and (condition[0].attribute.name == "sequence" or _denies(condition[0]))
        for condition in query.filters
    )


def _is_place(term: Term) -> bool:
    """Return whether it compares qsequence with a number that a task can have."""
    return (
        term.attribute.name == "qsequence"
        and term.operator in _RANGES
        and isinstance(term.operand, int)
        and 0 <= term.operand < 1 << JOB_SHIFT
    )


def _denies(term: Term) -> bool:
    return term.attribute.name == "success" and term.operator == "=" and term.operand is False


def _fails(term: Term) -> bool:
    """Return whether it asks for tasks that failed, for good or once."""
    if term.attribute.name == "state":
        return term.operator == "=" and term.operand == TaskState.FAILED.word
    is_number = term.attribute.name == "failed_count" and isinstance(term.operand, int)
    least = {">": 0, ">=": 1, "=": 1}.get(term.operator)
    return is_number and least is not None and term.operand >= least


def _term(term: Term, values: _Values, job_id: int | None = None, *, is_log: bool = False) -> str:
    column = term.attribute.column
    assert column is not None
    if term.key is not None:
        return _of_key(column, term, values)
    if _denies(term):
        return f"{column} = 0"  # as the index says it
    if job_id is not None and _is_place(term):
        return f"id {term.operator} {values.bind((job_id << JOB_SHIFT) + term.operand)}"
    if term.attribute.name == "id" and term.operator in (">", ">=") and is_log:
        place = values.bind(term.operand)
        return f"id {term.operator} {place} AND event_id >= {place} >> {PLACE_BITS}"
    if term.attribute.words:
        return _among_words(term, term.attribute.words)
    if term.operand is None:
        return f"{column} IS NULL" if term.operator == "=" else f"{column} IS NOT NULL"
    comparison = _COMPARISONS.get(term.operator, _plain)(column, term, values)
    if term.attribute.name == "created_by_job_task_uuid" and term.operator in ("=", "in"):
        comparison = CREATED_BY.format(comparison.replace(column, "uuid", 1))
    return f"{comparison} OR {column} IS NULL" if term.nulls else comparison


def _plain(column: str, term: Term, values: _Values) -> str:
    return f"{column} {term.operator} {values.bind(term.operand)}"


def _like(column: str, term: Term, values: _Values) -> str:
    return f"{column} GLOB {values.bind(_translate(term.operand, _GLOB))}"


def _ilike(column: str, term: Term, values: _Values) -> str:
    return f"{column} LIKE {values.bind(_translate(term.operand, _LIKE))} ESCAPE '\\'"


def _member(column: str, term: Term, values: _Values) -> str:
    is_number = term.attribute.kind in (Kind.INTEGER, Kind.FLOAT, Kind.BOOLEAN, Kind.DATETIME)
    kind = "" if term.operand else "v" if is_number else "t"
    return f"{column} {term.operator.upper()} {values.bind_all(term.operand, kind)}"


def _is_a(column: str, term: Term, values: _Values) -> str:
    return f"substr({column}, 7, 5) IN {values.bind_all(term.operand)}"


def _of_key(column: str, term: Term, values: _Values) -> str:
    """Return the condition on what an object holds under a key; without it nothing is equal."""
    found = f"SELECT 1 FROM json_each({column}) AS held WHERE held.key = {values.bind(term.key)}"
    if term.operator == "exists":
        return f"{'' if term.operand else 'NOT '}EXISTS ({found})"
    test = _JSON_TESTS.get(term.operator, _json_compared)(term, values)
    return f"{'NOT ' * (term.operator in ('!=', 'not in'))}EXISTS ({found} AND ({test}))"


def _holds_item(source: str, term: Term, values: _Values) -> str:
    return (
        f"EXISTS (SELECT 1 FROM json_each({source}) WHERE {_json_equal((term.operand,), values)})"
    )


def _json_equal(wanted: tuple[Any, ...], values: _Values) -> str:
    """Return the condition that a JSON value is one of `wanted`, by type and value."""
    texts = tuple(item for item in wanted if isinstance(item, str))
    numbers = tuple(item for item in wanted if type(item) in (int, float))
    words = {_JSON_WORDS[item] for item in wanted if item is None or isinstance(item, bool)}
    tests = [f"type IN ({', '.join(sorted(words))})"]
    if texts:
        tests.append(f"type = 'text' AND atom IN {values.bind_all(texts)}")
    if numbers:
        tests.append(f"type IN ('integer', 'real') AND atom IN {values.bind_all(numbers, 'n')}")
    return " OR ".join(tests)


def _json_compared(term: Term, values: _Values) -> str:
    is_text = isinstance(term.operand, str)
    types, kind = ("'text'", "v") if is_text else ("'integer', 'real'", "n")
    return f"type IN ({types}) AND atom {term.operator} {values.bind(term.operand, kind)}"


def _json_contains(term: Term, values: _Values) -> str:
    itself = _json_equal((term.operand,), values)
    return f"{itself} OR type = 'array' AND {_holds_item('held.value', term, values)}"


_JSON_WORDS = {None: "'null'", True: "'true'", False: "'false'"}
_JSON_TESTS: Mapping[str, Callable[[Term, _Values], str]] = {
    "=": lambda term, values: _json_equal((term.operand,), values),
    "!=": lambda term, values: _json_equal((term.operand,), values),
    "in": lambda term, values: _json_equal(term.operand, values),
    "not in": lambda term, values: _json_equal(term.operand, values),
    "like": lambda term, values: f"type = 'text' AND {_like('atom', term, values)}",
    "ilike": lambda term, values: f"type = 'text' AND {_ilike('atom', term, values)}",
    "contains": _json_contains,
}


_RANGES = frozenset({"=", "<", "<=", ">", ">="})
_COMPARISONS: Mapping[str, Callable[[str, Term, _Values], str]] = {
    "like": _like,
    "ilike": _ilike,
    "in": _member,
    "not in": _member,
    "is_a": _is_a,
    "contains": _holds_item,
}

_GLOB = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
"""SQLite's LIKE ignores case; its GLOB, with other signs, does not."""
_LIKE = {"%": "%", "_": "_", "\\": "\\\\"}
_REGEX = {"%": ".*", "_": "."}


def _translate(pattern: str, signs: Mapping[str, str]) -> str:
    """Return a LIKE `pattern`, where a backslash escapes, in the signs of another language."""
    pieces = re.findall(r"\\.|.", pattern, re.DOTALL)
    return "".join(_translate_piece(piece, signs) for piece in pieces)


def _translate_piece(piece: str, signs: Mapping[str, str]) -> str:
    if len(piece) == 1:
        return signs.get(piece, re.escape(piece) if signs is _REGEX else piece)
    if signs is _REGEX:
        return re.escape(piece[1])
    if signs is _LIKE:
        return piece if piece[1] in "%_\\" else piece[1]
    return piece[1] if piece[1] in "%_" else signs.get(piece[1], piece[1])


def _among_words(term: Term, words: tuple[str, ...]) -> str:
    """Return the condition on a column that holds indices of `words`, decided here."""
    chosen = [str(index) for index, word in enumerate(words) if _holds(term, word)]
    return f"{term.attribute.column} IN ({', '.join(chosen)})"


def _holds(term: Term, word: str) -> bool:
    """Return whether a text operator holds for `word`, which is never null."""
    if term.operand is None:
        return term.operator == "!="
    return _HOLDS[term.operator](word, term.operand)


_HOLDS: Mapping[str, Callable[[str, Any], bool]] = {
    "=": lambda word, operand: word == operand,
    "!=": lambda word, operand: word != operand,
    "<": lambda word, operand: word < operand,
    "<=": lambda word, operand: word <= operand,
    ">": lambda word, operand: word > operand,
    ">=": lambda word, operand: word >= operand,
    "in": lambda word, operand: word in operand,
    "not in": lambda word, operand: word not in operand,
    "like": lambda word, operand: _matches(word, operand, 0),
    "ilike": lambda word, operand: _matches(word, operand, re.IGNORECASE),
    "is_a": lambda word, operand: False,
}


def _matches(word: str, pattern: str, flags: int) -> bool:
    return re.fullmatch(_translate(pattern, _REGEX), word, flags | re.DOTALL) is not None


# -- order -----------------------------------------------------------------------------------------


def _order_by(query: Query, *, one_job: bool) -> str:
    """Return the ORDER BY; within one job qsequence is the order of ids and no two are equal."""
    keys: list[str] = []
    for order in query.order:
        if one_job and order.attribute.name == "qsequence":
            keys.append("id DESC" if order.descending else "id")
            break
        keys.append(_key(order))
    return " ORDER BY " + ", ".join(keys) if keys else ""


def _key(order: Order) -> str:
    """Return one sort key; null is the largest value, as PostgreSQL has it."""
    attribute = order.attribute
    if attribute.kind is Kind.INTEGER or attribute.name in NEVER_NULL:
        return f"{attribute.column} DESC" if order.descending else f"{attribute.column}"
    return f"{attribute.column} {'DESC NULLS FIRST' if order.descending else 'NULLS LAST'}"


NEVER_NULL = frozenset({"uuid", "owner_uuid", "created_at", "modified_at", "updated_at", "state"})
"""Sorted plainly, so that an index serves."""
