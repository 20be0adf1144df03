"""What a task finds in its environment (R38); pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from jobtasks.protocol.messages import Assignment, JobBrief

VALUE_BYTES_MAX = 32 * 1024
"""A parameter's value above this is left out of the environment."""

PARAMETERS_BYTES_MAX = 256 * 1024
"""All parameters together; those past it are left out."""

BUNDLE_VARIABLES = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "HTTPLIB2_CA_CERTS",
    "PERL_LWP_SSL_CA_FILE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
)
"""Where programs look for the certificates to trust. The first is read by OpenSSL, and so by
Python, Ruby and Perl, by Go, and by the clients of Arvados."""

INHERITED = frozenset({"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"})
_OPERATORS = ("JOBTASKS_", "ARVADOS_")
_NOT_IN_NAMES = re.compile(r"[^A-Z0-9]")


def inherited(environ: Mapping[str, str], pass_names: Iterable[str] = ()) -> dict[str, str]:
    """Return what tasks inherit of the agent's own environment (R38).

    An operator's JOBTASKS_* and ARVADOS_* never pass, not even when `pass_names` has them: a task
    must not act with the operator's token.
    """
    names = INHERITED.union(pass_names)
    return {
        name: value
        for name, value in environ.items()
        if (name in names or name.startswith("LC_")) and not name.startswith(_OPERATORS)
    }


def parameter_name(prefix: str, name: str) -> str:
    """Return e.g. ``TASK_PARAMETER_IN_PUT`` for the parameter ``in-put``."""
    return prefix + _NOT_IN_NAMES.sub("_", name.upper())


def parameter_text(value: Any) -> str:
    """Return a parameter as text: strings as they are, null as "", anything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def parameters(prefix: str, values: Mapping[str, Any], room: int) -> tuple[dict[str, str], int]:
    """Return the variables for `values` and the bytes of `room` that are left after them.

    Left out (a task reads them by API): a value with NUL or above `VALUE_BYTES_MAX`, and from the
    first that does not fit into `room` on, all. Of two names that become one the first stays.
    """
    found: dict[str, str] = {}
    for name, value in values.items():
        text = parameter_text(value)
        size = len(text.encode())
        variable = parameter_name(prefix, name)
        if size > VALUE_BYTES_MAX or "\0" in text or variable in found:
            continue
        room -= size
        if room < 0:
            return found, 0
        found[variable] = text
    return found, room


class JobEnvironment:
    """The part of the environment that all attempts of a job on this node share.

    `base` is what `inherited` gives and what the node adds; `work` is the job's JOB_WORK. Computed
    once per job, because most of it never changes between tasks.
    """

    __slots__ = ("_room", "_variables")

    def __init__(self, base: Mapping[str, str], brief: JobBrief, work: str) -> None:
        found, self._room = parameters(
            "JOB_PARAMETER_", msgspec.json.decode(brief.script_parameters), PARAMETERS_BYTES_MAX
        )
        self._variables: dict[str, str] = {
            **base,
            **found,
            "JOB_UUID": brief.uuid,
            "JOB_WORK": work,
        }
        if brief.script is not None:
            self._variables["JOB_SCRIPT"] = brief.script

    def of(self, task: Assignment, work: str, server: dict[str, str]) -> dict[str, str]:
        """Return the whole environment of one attempt.

        `work` is its TASK_WORK; `server` is what `server_variables` gives: both may differ from
        attempt to attempt.
        """
        variables: dict[str, str] = self._variables | server
        if task.parameters != "{}":
            own = msgspec.json.decode(task.parameters)
            variables |= parameters("TASK_PARAMETER_", own, self._room)[0]
        variables["TASK_UUID"] = task.task
        variables["TASK_ATTEMPT"] = str(task.number)
        variables["TASK_SEQUENCE"] = str(task.sequence)
        variables["TASK_QSEQUENCE"] = str(task.qsequence)
        variables["TASK_WORK"] = work
        variables["TASK_SLOT_NUMBER"] = str(task.slot)
        variables["ARVADOS_API_TOKEN"] = task.token
        if task.nodes:
            variables["TASK_NODES"] = " ".join(task.nodes)
        return variables


def node_variables(hostname: str, slots: int, sdk: str, own: Mapping[str, str]) -> dict[str, str]:
    """Return what is the same for every attempt on this node; `sdk` goes onto PYTHONPATH.

    `own` is what `inherited` gave. TASK_NODES names this node until a gang's list replaces it.
    """
    path = f"{sdk}:{own['PYTHONPATH']}" if own.get("PYTHONPATH") else sdk
    return {
        **own,
        "PYTHONPATH": path,
        "TASK_SLOT_NODE": hostname,
        "TASK_NODES": hostname,
        "CRUNCH_NODE_SLOTS": str(slots),
    }


def server_variables(url: str, api_host: str = "", bundle: str = "") -> dict[str, str]:
    """Return how a task reaches the server at `url`.

    `api_host` is what clients of Arvados call (https, if it is served); "": the host of `url`.
    `bundle` is a file of certificates to trust; "": what the system trusts.
    """
    found = {"JOBTASKS_URL": url, "ARVADOS_API_HOST": api_host or urlsplit(url).netloc}
    return found | dict.fromkeys(BUNDLE_VARIABLES, bundle) if bundle else found
