"""Every address that pages lead to, and every form on them: a new page cannot be left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

import httpx

ADDRESSES = ("href", "src", "data-panel")
QUIET = frozenset({"/static", "/sign-out"})
"""What a walk leaves out: files, and the way out."""


@dataclass
class Form:
    """A form of a page."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class Looked(HTMLParser):
    """What a page leads to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.forms: list[Form] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.addresses += [given[name] for name in ADDRESSES if name in given]
        if tag == "form":
            self.forms.append(Form(given.get("method", "get"), given["action"]))
        elif tag == "input" and "name" in given and self.forms:
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        self.addresses += [given["formaction"]] if "formaction" in given else []


@dataclass
class Walk:
    """What a walk through the pages has seen."""

    answers: dict[str, httpx.Response] = field(default_factory=dict)
    forms: list[tuple[str, Form]] = field(default_factory=list)
    """With the address of the page that shows it."""

    def actions(self) -> set[str]:
        """Return where forms that change something are sent to."""
        return {form.action for _, form in self.forms if form.method == "post"}


def walk(http: httpx.Client, starts: Iterable[str] = ("/",)) -> Walk:
    """Visit every page and part; of addresses that differ in what they ask for alone, one."""
    seen = Walk()
    known: set[object] = set()
    waiting = list(starts)
    while waiting:
        address = waiting.pop()
        if _kind_of(address) in known:
            continue
        known.add(_kind_of(address))
        answer = seen.answers[address] = http.get(address)
        assert answer.status_code == 200, f"{address}: {answer.status_code} {answer.text[:500]}"
        if answer.headers["content-type"].startswith("text/html"):
            looked = Looked(answer.text)
            seen.forms += [(address, form) for form in looked.forms]
            waiting += _own(looked)
    return seen


def _own(looked: Looked) -> Iterator[str]:
    goals = [form.action for form in looked.forms if form.method == "get"]
    for address in [*looked.addresses, *goals]:
        parts = urlsplit(address)
        assert not parts.scheme and not parts.netloc, f"leads away: {address}"
        if parts.path and not any(parts.path.startswith(quiet) for quiet in QUIET):
            yield parts._replace(fragment="").geturl()


def _kind_of(address: str) -> object:
    parts = urlsplit(address)
    return parts.path, tuple(sorted(parse_qs(parts.query)))
