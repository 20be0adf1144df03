"""How PostgreSQL is asked what is written for SQLite: placeholders, and a few words that differ.

One text serves both databases wherever both understand it, or where what differs is a matter of
spelling, which is changed here. Where more differs, queries/postgres/ has a second form of the
statement under the same name.
"""

from __future__ import annotations

import re
from functools import cache

from jobtasks.store.checks import second_forms
from jobtasks.store.statements import PLACEHOLDER, Statement, load_statements

SPELLINGS = (
    # What the driver reads as a placeholder.
    (re.compile(r"%"), "%%"),
    (PLACEHOLDER, r"%(\1)s"),
    (re.compile(r"\?"), "%s"),
    # Patterns: LIKE of the one ignores case, as ILIKE of the other; GLOB has other signs.
    (re.compile(r"\bLIKE\b"), "ILIKE"),
    (re.compile(r"\bGLOB (%\(\w+\)s)"), r"LIKE like_of(\1)"),
    # Which index to use is the planner's choice.
    (re.compile(r" INDEXED BY \w+"), ""),
    (re.compile(r"\bCROSS JOIN (\w+ AS \w+)(?=\s+ON\b)"), r"JOIN \1"),
    # Whether there is any is a column of its own: migrations/postgres.
    (
        re.compile(r"\b((?:\w+\.)?(?:live|state)) = 1 AND ((?:\w+\.)?)ready > 0"),
        r"\1 = 1 AND \2is_ready = 1",
    ),
    (re.compile(r"\btodo \+ running \+ failed > 0"), "is_open = 1"),
    # A list of nothing.
    (re.compile(r"\bIN \(\)"), "IN (NULL)"),
    # A table that has the name of a word of the language.
    (re.compile(r"\b(FROM|JOIN|INTO|UPDATE) user\b"), r'\1 "user"'),
    # Comparisons in which null is a value like others.
    (re.compile(r"\bIS NOT (?!NULL\b|DISTINCT\b)"), "IS DISTINCT FROM "),
    (re.compile(r"\bIS (?!NOT\b|NULL\b|DISTINCT\b)"), "IS NOT DISTINCT FROM "),
    # A member of an object.
    (re.compile(r"\bjson_extract\(([\w.]+), '\$\.(\w+)'\)"), r"(json_of(\1) ->> '\2')"),
    # What a list call looks for in an object, or in what is one of its members.
    (re.compile(r"\bjson_each\(([a-z_.]+)\) AS held\b"), r"json_members(\1) AS held"),
    (
        re.compile(r"\bjson_each\(([a-z_.]+)\) WHERE (?=\(?type\b)"),
        r"json_members(\1) AS item WHERE ",
    ),
    (re.compile(r"\batom ([<>=!]+ %\(n\d+\)s)"), r"number \1"),
    (re.compile(r"\batom IN (?=\(SELECT value FROM json_each\(%\(n)"), "number IN "),
    # A JSON array as a parameter, of texts or numbers by these names, else of ids; or in a column,
    # of ids.
    (re.compile(r"\bjson_each\((%\((?:uuids|busy|t\d+)\)s)\)"), r"json_each(texts_of(\1))"),
    (re.compile(r"\bjson_each\((%\(n\d+\)s)\)"), r"json_each(numbers_of(\1))"),
    (re.compile(r"\bjson_each\((%\(\w+\)s|\w+\.\w+)\)"), r"json_each(ids_of(\1))"),
    (re.compile(r"\bNOT IN \(SELECT value FROM json_each\((.+?\))\)\)"), r"<> ALL (\1)"),
    (re.compile(r"\bIN \(SELECT value FROM json_each\((.+?\))\)\)"), r"= ANY (\1)"),
    (
        re.compile(r"\bEXISTS \(SELECT 1 FROM json_each\((.+?\))\) WHERE value = (%\(\w+\)s)\)"),
        r"\2 = ANY (\1)",
    ),
    (
        re.compile(r"\bjson_each\((.+?\))\) AS w\b"),
        r"unnest(\1) WITH ORDINALITY AS w (value, key)",
    ),
    # An array of arrays.
    (
        re.compile(r"\bjson_group_array\(json_array\(([^()]+)\)\)"),
        r"json_agg(json_build_array(\1))::text",
    ),
    (re.compile(r"length\(CAST\((\w+(?:\.\w+)?) AS BLOB\)\)"), r"octet_length(\1)"),
)


def spelled(sql: str) -> str:
    """Return a statement as PostgreSQL and its driver read it."""
    for pattern, words in SPELLINGS:
        sql = pattern.sub(words, sql)
    return sql


def composed(sql: str) -> str:
    """Return a statement that has no name, in the form for PostgreSQL where there is one."""
    return spelled(second_forms().get(sql, sql))


@cache
def load_postgres_statements() -> dict[str, Statement]:
    """Return every statement by name, in the form for PostgreSQL where there is one."""
    forms = {**load_statements(), **load_statements("postgres")}
    return {
        name: statement._replace(sql=spelled(statement.sql)) for name, statement in forms.items()
    }
