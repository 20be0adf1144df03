"""What tells a POST from its repeat: an Idempotency-Key, else its X-Request-Id (R22)."""

from __future__ import annotations

from starlette.requests import Request

from jobtasks.api.deliveries import Deliveries
from jobtasks.api.edge import secret_of
from jobtasks.core.repeats import REQUEST_ID
from jobtasks.service.idempotency import Name, make_key
from jobtasks.service.repeats import make_name


def key_of(request: Request, raw: bytes, deliveries: Deliveries) -> Name | None:
    """Return what the request is called, None when it brings no name; `raw` is what it says.

    Raises:
        Invalid: an Idempotency-Key that is too long.
    """
    call = f"{request.method} {request.scope['path']}"
    key = make_key(request.headers.get("idempotency-key"), call, raw)
    request_id = request.headers.get("x-request-id", "")
    secret = secret_of(request)
    if key is not None or secret is None or not REQUEST_ID.fullmatch(request_id):
        return key
    call = f"{call}?{request.url.query}"
    return make_name(secret, request_id, call, raw, deliveries.__contains__)
