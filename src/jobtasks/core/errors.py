"""Every error that a user can meet, as one tree.

    JobTasksError
    ├── RequestError                the caller must change the request
    │   ├── MalformedRequest        400  the body is not JSON
    │   ├── NotLoggedIn             401  no token, or one that is unknown or has expired
    │   ├── Forbidden               403  this token may not do that
    │   │   └── StaleAttempt        403  the attempt is over, its token is dead (R32)
    │   ├── NotFound                404
    │   ├── MethodNotAllowed        405
    │   ├── TooLarge                413  past a limit of R40
    │   ├── UnknownEncoding         415  a body in a form that is not understood
    │   ├── Invalid                 422  a value or a change that the rules refuse
    │   │   └── Conflict            422  what is there, or goes on, is in its way
    │   ├── TooSlow                 408  the request did not arrive in time (transient)
    │   └── HeadTooLarge            431  address and headers are past a limit of R40
    ├── TooManyRequests             429  repeat later (transient, R40)
    └── Unavailable                 503  repeat later (transient)

The docstring of a class is its default message; ``code`` is stable and machine-readable.
"""

from __future__ import annotations

from typing import ClassVar


class JobTasksError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 125
    transient: ClassVar[bool] = False

    def __init__(self, *messages: str) -> None:
        self.messages: tuple[str, ...] = messages or ((type(self).__doc__ or "").strip(),)
        super().__init__("; ".join(self.messages))


class RequestError(JobTasksError):
    """The request cannot be served as it is."""

    status = 422
    code = "invalid"
    exit_code = 1


class MalformedRequest(RequestError):
    """The request body is not valid JSON."""

    status = 400
    code = "malformed"


class NotLoggedIn(RequestError):
    """Not logged in"""

    status = 401
    code = "not_logged_in"


class Forbidden(RequestError):
    """Forbidden"""

    status = 403
    code = "forbidden"


class StaleAttempt(Forbidden):
    """This attempt is over: its token is not valid any more, nothing was changed (R32)"""

    code = "stale_attempt"


class NotFound(RequestError):
    """Path not found"""

    status = 404
    code = "not_found"
    exit_code = 3


class MethodNotAllowed(RequestError):
    """This address does not take that method."""

    status = 405
    code = "method_not_allowed"


class TooLarge(RequestError):
    """The request is larger than a limit allows (R40)."""

    status = 413
    code = "too_large"


class UnknownEncoding(RequestError):
    """The request body has an encoding that is not understood."""

    status = 415
    code = "unknown_encoding"


class Invalid(RequestError):
    """The request breaks a rule."""


class Conflict(Invalid):
    """What is there already, or goes on, is in the way of this request."""

    # Not 409: clients of Arvados repeat that by themselves.
    code = "conflict"


class TooSlow(RequestError):
    """The request did not arrive in time (R40)."""

    status = 408
    code = "too_slow"
    transient = True


class HeadTooLarge(RequestError):
    """The address and headers of the request are larger than a limit allows (R40)."""

    status = 431
    code = "head_too_large"


class TooManyRequests(JobTasksError):
    """Too many requests are under way; repeat this one later (R40)."""

    status = 429
    code = "too_many_requests"
    transient = True


class Unavailable(JobTasksError):
    """The service cannot do this now; repeat the request later."""

    status = 503
    code = "unavailable"
    transient = True


def error_codes() -> dict[str, int]:
    """Return every code that an answer may carry, with its HTTP status."""
    kinds = [JobTasksError]
    for kind in kinds:
        kinds += [child for child in kind.__subclasses__() if child.__module__ == __name__]
    return {kind.code: kind.status for kind in kinds}
