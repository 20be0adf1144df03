"""Which errors a client is told to repeat: clients of Arvados go by the status alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobtasks.core.errors import JobTasksError

REPEATED = frozenset({408, 409, 423, 429, 500, 501, 502, 503})
"""What the Python client of Arvados sends again, up to ten times, POST included (measured)."""
FAULT = 500
"""A fault of ours: nobody knows whether a repeat would help."""


def errors(kind: type[JobTasksError] = JobTasksError) -> Iterator[type[JobTasksError]]:
    """Yield every error that an answer may carry."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == JobTasksError.__module__:
            yield from errors(child)


@pytest.mark.rule("R41")
@pytest.mark.parametrize("error", list(errors()), ids=lambda error: error.__name__)
def test_only_what_passes_has_a_status_that_is_repeated(error: type[JobTasksError]) -> None:
    """What will be refused again has a status that ends the client's call at once."""
    assert error.transient == (error.status in REPEATED - {FAULT})
