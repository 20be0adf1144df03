"""Who may come in: sessions in cookies, and what of other sites is turned away.

A page of another site can make a browser send requests here, with the cookie. It cannot read the
answers; and nothing that changes anything is taken from it: the browser must say that the request
is of this site, and it must carry a sign that only our own pages know.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from jobtasks.api.forms import FORM
from jobtasks.core.errors import Forbidden

SIGN = "sign"
"""The field of every form that shows that it is of our own page."""
OWN = ("same-origin", "none")
"""What a browser says of requests that no other site made."""
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types jobtasks",
    )
)
"""Nothing but our own files runs, is shown or is asked."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def is_secure(request: Request, external_url: str) -> bool:
    """Return whether the browser came by https, perhaps to a proxy before us."""
    outer = urlsplit(external_url)
    came_to = request.headers.get("host", "")
    return request.url.scheme == "https" or (outer.scheme == "https" and outer.netloc == came_to)


def cookie_name(request: Request, external_url: str) -> str:
    """Return the name of the session's cookie.

    Cookies do not know ports: of two servers on one host each needs a name of its own.
    """
    port = urlsplit("//" + request.headers.get("host", "")).port or ""
    prefix = "__Host-" if is_secure(request, external_url) else ""
    return f"{prefix}jobtasks_{port}"


def session_of(request: Request, external_url: str) -> str | None:
    """Return the session's secret, None for a stranger."""
    return request.cookies.get(cookie_name(request, external_url)) or None


def keep_session(request: Request, answer: Response, secret: str, external_url: str) -> None:
    """Have the browser keep a session until it is closed."""
    answer.set_cookie(
        cookie_name(request, external_url),
        secret,
        path="/",
        httponly=True,
        samesite="lax",
        secure=is_secure(request, external_url),
    )


def drop_session(request: Request, answer: Response, external_url: str) -> None:
    """Have the browser forget a session."""
    answer.delete_cookie(
        cookie_name(request, external_url),
        path="/",
        httponly=True,
        samesite="lax",
        secure=is_secure(request, external_url),
    )


def sign_of(secret: str) -> str:
    """Return what the forms of a session carry; it does not tell the session's secret."""
    return hmac.new(secret.encode(), b"jobtasks forms", hashlib.sha256).hexdigest()


def refuse_other_sites(request: Request) -> None:
    """Refuse a request that changes something and comes from another site.

    Raises:
        Forbidden: the browser says that it is another's, or says it by its Origin.
    """
    said = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    is_own = said in OWN if said else origin is None or _is_host(origin, request)
    if not is_own:
        raise Forbidden("This was asked for by a page of another site: nothing was done.")


def _is_host(origin: str, request: Request) -> bool:
    return urlsplit(origin).netloc == request.headers.get("host")


def require_sign(request: Request, secret: str) -> None:
    """Refuse a form that no page of this session made.

    Raises:
        Forbidden: its sign is missing or another's.
    """
    form = request.scope.get(FORM)
    given = (form.get(SIGN) if form else None) or ""
    if not hmac.compare_digest(given.encode(), sign_of(secret).encode()):
        raise Forbidden("This form is of an earlier session: go back, load the page, try again.")


def local_path(given: str | None) -> str:
    """Return where to go next: an address of this site, whatever was asked for."""
    if not given or not given.startswith("/") or given.startswith("//") or "\\" in given:
        return "/"
    return given if given.isprintable() else "/"
