"""A job as one page that needs no server: for a mail, a paper, or those who come later."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from markupsafe import Markup

from jobtasks.core.timestamps import parse_time
from jobtasks.web.files import STATIC
from jobtasks.web.templating import make_templates

Json = Mapping[str, Any]


def render_report(
    job: Json,
    levels: Sequence[Json],
    families: Sequence[Json],
    timeline: Json,
    server: str,
    now: int,
) -> str:
    """Return the page, made of what the API answers with; `now` in Unix microseconds.

    What it shows and runs stands in it, and nothing else may run: its policy names both by their
    hashes.
    """
    style = (STATIC / "style.css").read_text()
    script = (STATIC / "timeline.js").read_text()
    policy = (
        f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none';"
        f" style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )
    templates = make_templates()
    templates.filters["readable"] = _readable
    return templates.get_template("report.html").render(
        job=job,
        name=job["description"] or " ".join(job["command"] or []) or job["script"] or "",
        counts=job["tasks_summary"],
        times=_times(job),
        levels=levels,
        families=families,
        timeline=Markup(_embedded(timeline)),
        style=Markup(style),
        script=Markup(script),
        policy=policy,
        server=server,
        now=now,
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _times(job: Json) -> dict[str, int | None]:
    ended_at = job["finished_at"] or job["cancelled_at"]
    named = {"created_at": job["created_at"], "started_at": job["started_at"], "ended_at": ended_at}
    return {name: parse_time(text) if text else None for name, text in named.items()}


def _embedded(value: Any) -> str:
    """Return JSON that ends no element, whatever its texts hold."""
    text = msgspec.json.encode(value).decode()
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _readable(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
