"""The resources of the API as one table: every attribute once (R8, R42).

Everything that depends on which attributes exist reads this table: the type rules of what clients
send, filters and order, what a create or an update may name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec

from jobtasks.core.errors import Invalid
from jobtasks.core.nesting import deeper_than
from jobtasks.core.settings import Settings
from jobtasks.core.states import JobState, TaskState
from jobtasks.core.timestamps import parse_time

STRING_CHARACTERS_MAX = 255
"""Length of an attribute of kind `string`."""
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1
ALIASES = {"resource_limits": "runtime_constraints"}
"""Old names that clients may still use (R30)."""
DEPTH_MAX = Settings().depth_max


class Kind(StrEnum):
    """The type of an attribute's values; null is a value of every kind but `object`."""

    STRING = "string"
    """Text of at most `STRING_CHARACTERS_MAX` characters."""
    TEXT = "text"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    OBJECT = "object"
    LIST = "list"
    """A list of words."""
    DATETIME = "datetime"


class FilterClass(StrEnum):
    """Which operators a filter may use on an attribute."""

    TEXT = "text"
    DATETIME = "datetime"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a resource; its place in `Resource.attributes` is its place in answers."""

    name: str
    kind: Kind
    column: str | None = None
    """Expression over the columns of the resource's view, for filters and order; None: neither."""
    filter_class: FilterClass = FilterClass.NONE
    create: bool = False
    """May be given at create."""
    update: bool = False
    """May be changed by an ordinary update."""
    server: bool = False
    """Belongs to the server or the manager."""
    ignored: bool = False
    """Derived by the server alone: whatever a client sends for it is dropped, in any method."""
    foreign: bool = False
    """Belongs to the manager, and so in a foreign job to whoever runs that (R7b)."""
    arvados: bool = True
    """Whether Arvados has it; else it is ours."""
    words: tuple[str, ...] = ()
    """Spellings of a column that holds their index."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One collection of the API."""

    name: str
    """Of the collection, in paths: ``job_tasks``."""
    singular: str
    """Key that wraps one record in a body: ``job_task``."""
    kind: str
    """Value of attribute ``kind``."""
    uuid_kind: str
    """Kind of UUID, as in core/identifiers.py."""
    view: str
    """Where its visible rows are read."""
    attributes: Mapping[str, Attribute]

    @property
    def wrappers(self) -> tuple[str, ...]:
        """Keys that may wrap a record: old clients spell ``job_task`` in three ways."""
        return _spellings(self.singular)


@cache
def _spellings(singular: str) -> tuple[str, ...]:
    words = singular.split("_")
    camel = words[0] + "".join(word.title() for word in words[1:])
    return tuple(dict.fromkeys((singular, camel, "".join(words))))


def _plain(kind: Kind, filter_class: FilterClass) -> Callable[..., Attribute]:
    """Return a maker of attributes that are stored in a column of their own name."""

    def make(name: str, *flags: str, column: str = "", words: tuple[str, ...] = ()) -> Attribute:
        return Attribute(
            name,
            kind,
            column=column or name,
            filter_class=filter_class,
            create="create" in flags,
            update="update" in flags,
            server="server" in flags or "ignored" in flags,
            ignored="ignored" in flags,
            foreign="foreign" in flags,
            arvados="ours" not in flags,
            words=words,
        )

    return make


_string = _plain(Kind.STRING, FilterClass.TEXT)
_text = _plain(Kind.TEXT, FilterClass.TEXT)
_integer = _plain(Kind.INTEGER, FilterClass.INTEGER)
_float = _plain(Kind.FLOAT, FilterClass.NONE)
_boolean = _plain(Kind.BOOLEAN, FilterClass.BOOLEAN)
_object = _plain(Kind.OBJECT, FilterClass.TEXT)
_list = _plain(Kind.LIST, FilterClass.TEXT)
_datetime = _plain(Kind.DATETIME, FilterClass.DATETIME)


def _computed(name: str, kind: Kind, *, arvados: bool = True) -> Attribute:
    """Return an attribute that no column holds."""
    return Attribute(name, kind, server=True, ignored=True, arvados=arvados)


COMMON = (
    _computed("href", Kind.STRING),
    _computed("kind", Kind.STRING),
    _computed("etag", Kind.STRING),
    _string("uuid", "server"),
    _string("owner_uuid", "server"),
    _datetime("created_at", "ignored"),
    _string("modified_by_client_uuid", "ignored"),
    _string("modified_by_user_uuid", "ignored"),
    _datetime("modified_at", "ignored"),
)
"""What every Arvados resource has."""

_JOB_RUNNING = f"(state = '{JobState.RUNNING.value}')"
_JOB_SUCCESS = (
    f"CASE state WHEN '{JobState.COMPLETE.value}' THEN 1"
    f" WHEN '{JobState.FAILED.value}' THEN 0 WHEN '{JobState.CANCELLED.value}' THEN 0 END"
)

JOBS = (
    *COMMON,
    _string("submit_id", "create"),
    _integer("priority", "create", "update"),
    _text("script", "create"),
    _object("script_parameters", "create"),
    _text("script_version", "create"),
    _datetime("cancelled_at", "server", "foreign"),
    _string("cancelled_by_client_uuid", "server"),
    _string("cancelled_by_user_uuid", "server"),
    _datetime("started_at", "server", "foreign"),
    _datetime("finished_at", "server", "foreign"),
    _text("output", "server", "foreign"),
    _text("log", "server", "foreign"),
    _boolean("success", "server", "foreign", column=_JOB_SUCCESS),
    _boolean("running", "server", "foreign", column=_JOB_RUNNING),
    _string("state", "server", "foreign"),
    _string("is_locked_by_uuid", "server", "foreign"),
    _object("runtime_constraints", "create", "update"),
    Attribute("tasks_summary", Kind.OBJECT, server=True, foreign=True),
    _boolean("nondeterministic", "create", "update"),
    _text("repository", "create"),
    _text("supplied_script_version", "create"),
    _string("arvados_sdk_version", "ignored"),
    _string("docker_image_locator", "ignored"),
    _computed("queue_position", Kind.INTEGER),
    _computed("node_uuids", Kind.LIST),
    _text("description", "create", "update"),
    _object("components", "create", "update"),
    _list("command", "create", "ours"),
    _boolean("output_truncated", "server", "ours"),
    _datetime("logs_removed_at", "ignored", "ours"),
    _text("script_hash", "ignored", "ours"),
)

JOB_TASKS = (
    *COMMON,
    _string("job_uuid", "create", "server"),
    _string("created_by_job_task_uuid", "create", "server"),
    _integer("sequence", "create"),
    _integer("qsequence", "server", "foreign"),
    _object("parameters", "create"),
    _text("output", "update"),
    _float("progress", "update"),
    _boolean("success", "update"),
    _datetime("started_at", "server", "foreign"),
    _datetime("finished_at", "server", "foreign"),
    _object("runtime_constraints", "create", "ours"),
    _list("command", "create", "ours"),
    _string("state", "server", "foreign", "ours", words=tuple(state.word for state in TaskState)),
    _integer("attempts", "server", "foreign", "ours"),
    _integer("failed_count", "server", "foreign", "ours"),
    _float("failed_at", "server", "foreign", "ours"),
    _text("failed_log", "server", "foreign", "ours"),
    _text("log", "server", "foreign", "ours"),
)


USERS = (
    *COMMON,
    _string("username", "create", "update"),
    _string("email", "create", "update"),
    _computed("full_name", Kind.STRING),
    _string("first_name", "create", "update"),
    _string("last_name", "create", "update"),
    _boolean("is_active", "create", "update"),
    _boolean("is_admin", "create", "update"),
    _computed("is_invited", Kind.BOOLEAN),
    _computed("identity_url", Kind.STRING),
    _computed("prefs", Kind.OBJECT),
    _computed("writable_by", Kind.LIST),
)

TOKENS = (
    *(row for row in COMMON if row.name != "owner_uuid"),
    _string("owner_uuid", "create"),
    _computed("user_id", Kind.INTEGER),
    _computed("api_client_id", Kind.INTEGER),
    _computed("api_token", Kind.STRING),
    _computed("created_by_ip_address", Kind.STRING),
    _computed("default_owner_uuid", Kind.STRING),
    _datetime("expires_at", "create"),
    _datetime("last_used_at", "server"),
    _computed("last_used_by_ip_address", Kind.STRING),
    Attribute("scopes", Kind.LIST, create=True),
    _string("label", "create", "ours"),
    _string("role", "server", "ours"),
)

NODES = (
    *COMMON,
    _string("hostname", "server"),
    _computed("domain", Kind.STRING),
    _computed("ip_address", Kind.STRING),
    _integer("slot_number", "server"),
    _datetime("first_ping_at", "server"),
    _datetime("last_ping_at", "server"),
    _string("status", "server"),
    _string("crunch_worker_state", "server"),
    _computed("job_uuid", Kind.STRING),
    _object("properties", "server"),
    _computed("info", Kind.OBJECT),
    _computed("nameservers", Kind.LIST),
    _string("state", "server", "ours"),
    _string("engine", "server", "ours"),
    *(
        _integer(name, "server", "ours")
        for name in (
            *("slots", "cores", "memory_kib", "scratch_mb"),
            *("attempts_live", "free_slots", "free_memory_kib"),
        )
    ),
    _boolean("draining", "server", "ours"),
    _string("draining_reason", "server", "ours"),
    _boolean("held", "server", "ours"),
    _boolean("on_trial", "server", "ours"),
    _datetime("held_until", "server", "ours"),
    _string("held_reason", "server", "ours"),
    _string("held_by_user_uuid", "server", "ours"),
    _string("kept_for", "server", "ours"),
)


LOGS = (
    *COMMON,
    _integer("id", "server"),
    _string("object_uuid", "create"),
    _string("object_owner_uuid", "ignored"),
    _computed("object_kind", Kind.STRING),
    _datetime("event_at", "create"),
    _string("event_type", "create"),
    _text("summary", "create"),
    _object("properties", "create"),
)


def _resource(
    name: str,
    singular: str,
    kind: str,
    view: str,
    rows: tuple[Attribute, ...],
    uuid_kind: str = "",
) -> Resource:
    attributes = {row.name: row for row in rows}
    return Resource(name, singular, kind, uuid_kind or singular, view, attributes)


RESOURCES: Mapping[str, Resource] = {
    "jobs": _resource("jobs", "job", "arvados#job", "visible_job", JOBS),
    "job_tasks": _resource("job_tasks", "job_task", "arvados#jobTask", "visible_task", JOB_TASKS),
    "users": _resource("users", "user", "arvados#user", "visible_user", USERS),
    "api_client_authorizations": _resource(
        "api_client_authorizations",
        "api_client_authorization",
        "arvados#apiClientAuthorization",
        "visible_token",
        TOKENS,
        uuid_kind="token",
    ),
    "logs": _resource("logs", "log", "arvados#log", "visible_log", LOGS),
    "nodes": _resource("nodes", "node", "arvados#node", "visible_node", NODES),
}


def attribute(resource: Resource, name: str) -> Attribute:
    """Return the attribute called `name`, an old name counting as the new one.

    Raises:
        Invalid: there is none.
    """
    found = resource.attributes.get(ALIASES.get(name, name))
    if found is None:
        raise Invalid(f"unknown attribute: {name}")
    return found


def of_foreign(resource: Resource) -> frozenset[str]:
    """Return what the manager of a foreign job may change of it, or of its tasks (R7b)."""
    return frozenset(
        row.name
        for row in resource.attributes.values()
        if (row.create or row.update or row.foreign) and row.name not in ("submit_id", "job_uuid")
    )


def coerce(attribute: Attribute, value: Any) -> Any:
    """Return `value`, as JSON gave it, as a value of the attribute's kind (R8).

    Texts stay str, objects become dict, lists of words list[str], times Unix microseconds.

    Raises:
        Invalid: it is none; one sentence says what was expected.
    """
    if value is None and attribute.kind is not Kind.OBJECT:
        return None
    return _COERCIONS[attribute.kind](attribute.name, value)


def _coerce_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{name} must be text or null, not {_shown(value)}")
    return _storable(name, value)


def _storable(name: str, value: str) -> str:
    if "\0" in value:
        raise Invalid(f"{name} must not contain a NUL character")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise Invalid(f"{name} must not contain half of a surrogate pair")
    return value


def _coerce_string(name: str, value: Any) -> str:
    text = _coerce_text(name, value)
    if len(text) > STRING_CHARACTERS_MAX:
        raise Invalid(f"{name} must have at most {STRING_CHARACTERS_MAX} characters")
    return text


def _coerce_integer(name: str, value: Any) -> int:
    if isinstance(value, str) and is_digits(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Invalid(f"{name} must be an integer, not {_shown(value)}")
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise Invalid(f"{name} must fit into 64 bits")
    return value


def is_digits(text: str) -> bool:
    """Return whether `text` spells an integer that 64 bits may hold, in plain digits."""
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= 20


def _coerce_float(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Invalid(f"{name} must be a number or null, not {_shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise Invalid(f"{name} must be a number that 64 bits may hold") from None


_BOOLEANS = {
    (bool, True): True,
    (bool, False): False,
    (int, 1): True,
    (int, 0): False,
    (str, "1"): True,
    (str, "0"): False,
    (str, "true"): True,
    (str, "false"): False,
}


def as_boolean(value: Any) -> bool | None:
    """Return the boolean that `value` is or spells, None when it does neither."""
    known = isinstance(value, bool | int | str)
    return _BOOLEANS.get((type(value), value)) if known else None


def _coerce_boolean(name: str, value: Any) -> bool:
    boolean = as_boolean(value)
    if boolean is None:
        raise Invalid(f"{name} must be true, false or null, not {_shown(value)}")
    return boolean


def _coerce_object(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = _decoded(name, value)
    if not isinstance(value, dict):
        raise Invalid(f"{name} must be a JSON object, not {_shown(value)}")
    return value


def _decoded(name: str, text: str) -> Any:
    """Return the JSON in `text`; what a body's limits have not seen is held to the same depth."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise Invalid(f"{name} must be a JSON object, not {_shown(text)}") from None
    if deeper_than(value, DEPTH_MAX):
        raise Invalid(f"{name} must not be nested deeper than {DEPTH_MAX} levels")
    return value


def _coerce_list(name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise Invalid(f"{name} must be a list of words, not {_shown(value)}")
    for word in value:
        if not isinstance(word, str):
            raise Invalid(f"{name} must be a list of words; {_shown(word)} is not text")
        _storable(name, word)
    if not value[0]:
        raise Invalid(f"{name} must begin with the name of a program")
    return value


def _coerce_datetime(name: str, value: Any) -> int:
    try:
        return parse_time(value)
    except (TypeError, AttributeError, ValueError, OverflowError):
        raise Invalid(f"{name} must be a time such as 2014-01-01T01:23:45Z or null") from None


_COERCIONS: Mapping[Kind, Callable[[str, Any], Any]] = {
    Kind.STRING: _coerce_string,
    Kind.TEXT: _coerce_text,
    Kind.INTEGER: _coerce_integer,
    Kind.FLOAT: _coerce_float,
    Kind.BOOLEAN: _coerce_boolean,
    Kind.OBJECT: _coerce_object,
    Kind.LIST: _coerce_list,
    Kind.DATETIME: _coerce_datetime,
}


def _shown(value: Any) -> str:
    """Return `value` for an error message: short, and never the whole of a large one."""
    try:
        text = msgspec.json.encode(value).decode()
    except (msgspec.MsgspecError, RecursionError, UnicodeError, TypeError, ValueError):
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "…"
