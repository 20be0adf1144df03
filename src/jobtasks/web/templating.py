"""The templates of all pages, and the words that they use."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobtasks.web import words

TEMPLATES = Path(__file__).with_name("templates")


def make_templates() -> Environment:
    """Return the templates; what they show is escaped, and a name that is missing an error."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for name in (
        *("iso", "clock", "duration", "size", "kib", "count", "plural", "short", "pretty"),
        *("compact", "command", "cause", "share", "between", "task_word", "attempt_word"),
    ):
        found.filters[name] = getattr(words, name)
        found.globals[name] = getattr(words, name)
    return found
