"""Users and their tokens: who makes them, what they may do, when they end."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jobtasks.core.errors import Forbidden, Invalid, NotFound, NotLoggedIn
from jobtasks.core.filters import parse_query
from jobtasks.core.identifiers import token_hash
from jobtasks.core.resources import RESOURCES
from jobtasks.core.timestamps import render_time
from jobtasks.service import jobs, listing, setup, tokens, user_tokens, users
from jobtasks.service.context import Caller, Context
from jobtasks.service.idempotency import make_key
from jobtasks.store.records import TokenRecord, UserRecord
from jobtasks.store.sqlite import SqliteStore
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import ADMIN_TOKEN, AGENT_TOKEN, SCRIPT, LocalService

SECOND = 1_000_000


def new_user(service: LocalService, name: str = "ada", **more: Any) -> UserRecord:
    return service.call(users.create, {"username": name, **more})


def new_token(service: LocalService, user: UserRecord, **more: Any) -> TokenRecord:
    return service.call(user_tokens.create, {"owner_uuid": user.uuid, **more})


def secret_of(token: TokenRecord) -> str:
    assert token.api_token is not None
    return token.api_token


def identified(service: LocalService, secret: str, call: str | None = None) -> Caller:
    return service.run(lambda ctx: tokens.identify(ctx, secret, call))


def later(service: LocalService, seconds: float) -> str:
    """Return a time so many seconds from now as a client writes it."""
    return render_time(service.clock.now + round(seconds * SECOND))


@pytest.mark.rule("R32")
def test_a_users_token_speaks_for_the_user(service: LocalService) -> None:
    """A job made with it is the user's; others' jobs look as if they did not exist."""
    ada, bob = new_user(service), new_user(service, "bob")
    secrets = [secret_of(new_token(service, user)) for user in (ada, bob)]
    job = service.as_token(secrets[0], jobs.create, SCRIPT)
    assert job.owner_uuid == ada.uuid
    assert service.as_token(secrets[0], users.current) == ada
    for method in (jobs.show, jobs.delete):
        with pytest.raises(NotFound):
            service.as_token(secrets[1], method, job.uuid)


@pytest.mark.rule("R32")
def test_the_secret_is_kept_nowhere(tmp_path: Path) -> None:
    """Its hash is; neither the database's files nor any answer but the first hold it."""
    service = LocalService(tmp_path / "jobtasks.db")
    ada = new_user(service)
    key = make_key("again", "", b"body")
    token = service.call(user_tokens.create, {"owner_uuid": ada.uuid}, key)
    secret = secret_of(token)
    assert service.call(user_tokens.create, {"owner_uuid": ada.uuid}, key).api_token is None
    assert service.call(user_tokens.show, token.uuid).api_token is None
    query = parse_query(RESOURCES["api_client_authorizations"], {}, 100)
    listed = service.call(listing.list_tokens, query).items
    assert [found.api_token for found in listed] == [None] * 3
    service.close()
    files = list(tmp_path.iterdir())
    assert any(token_hash(secret) in file.read_bytes() for file in files)
    assert not any(secret.encode() in file.read_bytes() for file in files)


@pytest.mark.rule("R32")
def test_a_revoked_token_is_gone_for_ever(service: LocalService, tmp_path: Path) -> None:
    """It is unknown from the next call on; a server that starts again does not bring one back."""
    ada = new_user(service)
    token = new_token(service, ada)
    assert service.as_token(secret_of(token), user_tokens.revoke, token.uuid).uuid == token.uuid
    with pytest.raises(NotLoggedIn):
        identified(service, secret_of(token))
    with pytest.raises(NotFound):
        service.call(user_tokens.show, token.uuid)
    own = service.call(user_tokens.current)
    service.call(user_tokens.revoke, own.uuid)
    service.run(setup.prepare, ADMIN_TOKEN, AGENT_TOKEN)
    with pytest.raises(NotLoggedIn):
        identified(service, ADMIN_TOKEN)


@pytest.mark.rule("R32")
def test_a_token_ends_when_it_expires(service: LocalService) -> None:
    """To the microsecond: at its end it is unknown."""
    token = new_token(service, new_user(service), expires_at=later(service, 10))
    service.clock.advance(9.9)
    identified(service, secret_of(token))
    service.clock.advance(0.1)
    with pytest.raises(NotLoggedIn):
        identified(service, secret_of(token))


@pytest.mark.rule("R32")
def test_a_token_gives_away_no_more_than_it_has(service: LocalService) -> None:
    """Neither wider scopes nor a later end, whatever it asks for."""
    ada = new_user(service)
    scopes = ["POST /arvados/v1/api_client_authorizations", "GET /arvados/v1/jobs/"]
    own = secret_of(new_token(service, ada, scopes=scopes, expires_at=later(service, 10)))

    def make(**attributes: Any) -> TokenRecord:
        return service.as_token(own, user_tokens.create, attributes)

    for wider in (None, ["all"], ["GET /"], ["GET /arvados/v1/jobs"], ["POST /arvados/v1/"]):
        with pytest.raises(Forbidden):
            make(scopes=wider)
    with pytest.raises(Forbidden):
        make(scopes=[], expires_at=later(service, 11))
    made = make(scopes=["GET /arvados/v1/jobs/zzzzz"])
    assert made.expires_at == service.clock.now + 10 * SECOND
    assert make(scopes=[], expires_at=later(service, 5)).expires_at is not None


@pytest.mark.rule("R32")
def test_tokens_of_others_are_an_administrators_business(service: LocalService) -> None:
    """A user makes, sees and revokes his own alone; attempts and agents none."""
    ada, bob = new_user(service), new_user(service, "bob")
    own, other = new_token(service, ada), new_token(service, bob)
    with pytest.raises(Forbidden):
        service.as_token(secret_of(own), user_tokens.create, {"owner_uuid": bob.uuid})
    for method in (user_tokens.show, user_tokens.revoke):
        with pytest.raises(NotFound):
            service.as_token(secret_of(own), method, other.uuid)
    query = parse_query(RESOURCES["api_client_authorizations"], {}, 100)
    page = service.as_token(secret_of(own), listing.list_tokens, query)
    assert [token.uuid for token in page.items] == [own.uuid]
    with pytest.raises(Forbidden):
        service.as_token(AGENT_TOKEN, user_tokens.create, {})
    with pytest.raises(Invalid, match="not found"):
        service.call(user_tokens.create, {"owner_uuid": "zzzzz-tpzed-nobodyatallnobo"})


@pytest.mark.rule("R32")
def test_an_attempts_token_sees_its_user_and_no_token(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Its own user; of tokens only itself."""
    secret = secret_of(new_token(service, new_user(service)))
    service.as_token(secret, jobs.create, SCRIPT)
    service.tick()
    attempt = agent.take_one().token
    assert service.as_token(attempt, users.current).username == "ada"
    assert service.as_token(attempt, user_tokens.current).role == "attempt"
    for kind, seen in (("users", 1), ("api_client_authorizations", 0)):
        query = parse_query(RESOURCES[kind], {}, 100)
        method: Any = listing.list_users if kind == "users" else listing.list_tokens
        assert service.as_token(attempt, method, query).items_available == seen
    with pytest.raises(Forbidden):
        service.as_token(attempt, user_tokens.create, {"scopes": []})


@pytest.mark.rule("R32")
def test_an_inactive_user_may_only_read(service: LocalService) -> None:
    """From the next call on; active again, everything is as before."""
    ada = new_user(service)
    secret = secret_of(new_token(service, ada))
    for is_active in (False, True):
        service.call(users.update, ada.uuid, {"is_active": is_active}, whole=False)
        assert identified(service, secret, "GET /arvados/v1/jobs").user_uuid == ada.uuid
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            if is_active:
                identified(service, secret, f"{method} /arvados/v1/jobs")
            else:
                with pytest.raises(Forbidden, match="inactive"):
                    identified(service, secret, f"{method} /arvados/v1/jobs")


@pytest.mark.rule("R32")
def test_what_a_token_may_do_follows_its_user(service: LocalService) -> None:
    """A user made an administrator is one with every token, and ceases to be one as fast."""
    ada = new_user(service)
    secret = secret_of(new_token(service, ada))
    roles = []
    for is_admin in (True, False):
        service.call(users.update, ada.uuid, {"is_admin": is_admin}, whole=False)
        roles.append(identified(service, secret).role)
    assert roles == ["admin", "user"]
    with pytest.raises(Forbidden):
        service.as_token(secret, users.update, ada.uuid, {"is_admin": True}, whole=False)


def test_the_root_user_cannot_be_locked_out(service: LocalService) -> None:
    """Nobody could undo it."""
    root = service.call(users.current)
    for change in ({"is_active": False}, {"is_admin": False}):
        with pytest.raises(Invalid, match="root"):
            service.call(users.update, root.uuid, change, whole=False)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"username": None},
        {"username": ""},
        {"username": "1a"},
        {"username": "a b"},
        {"username": "a\n"},
        {"username": "ä"},
        {"username": 3},
        {"username": "taken"},
        {"username": "x" * 256},
        {"username": "eve", "is_admin": "maybe"},
        {"username": "eve", "email": []},
        {"username": "eve", "uuid": "zzzzz-tpzed-000000000000001"},
        {"username": "eve", "no_such": 1},
    ],
)
def test_users_that_cannot_be(service: LocalService, attributes: dict[str, Any]) -> None:
    """Each is a clear refusal, and nothing is stored."""
    new_user(service, "taken")
    with pytest.raises(Invalid):
        service.call(users.create, attributes)
    assert service.rows("SELECT count(*) FROM user") == [(2,)]


@pytest.mark.parametrize(
    "attributes",
    [
        {"scopes": "all"},
        {"scopes": ["everything"]},
        {"expires_at": "soon"},
        {"expires_at": 5},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"label": "x" * 256},
        {"owner_uuid": 3},
        {"role": "agent"},
        {"uuid": "zzzzz-gj3su-000000000000001"},
        {"no_such": 1},
    ],
)
def test_tokens_that_cannot_be(service: LocalService, attributes: dict[str, Any]) -> None:
    """Each is a clear refusal, and nothing is stored."""
    with pytest.raises(Invalid):
        service.call(user_tokens.create, attributes)
    assert service.rows("SELECT count(*) FROM token") == [(2,)]


def test_whole_records_come_back(service: LocalService) -> None:
    """A PUT of what was read changes nothing else; nulls for booleans are the defaults."""
    ada = new_user(service, email="a@b", is_active=None)
    assert ada.is_active == 1
    sent = {"username": "ada", "first_name": "Ada", "email": "a@b", "owner_uuid": ""}
    changed = service.call(users.update, ada.uuid, sent, whole=True)
    assert (changed.first_name, changed.email) == ("Ada", "a@b")
    with pytest.raises(Invalid):
        service.call(users.update, ada.uuid, {"uuid": "x"}, whole=False)


def test_use_is_noted_at_most_once_a_minute(service: LocalService) -> None:
    """Whoever asks; an agent's and an attempt's never are."""
    token = new_token(service, new_user(service))
    secret = secret_of(token)
    noted = []
    for _ in range(6):
        caller = identified(service, secret)
        if tokens.is_use_news(caller, service.clock.now):
            service.run(tokens.note_use, token.uuid)
            service.run(tokens.note_use, token.uuid)
        noted.append(service.call(user_tokens.show, token.uuid).last_used_at)
        service.clock.advance(25)
    changes = [after != before for before, after in pairwise(noted)]
    assert changes == [False, False, True, False, False]
    assert not tokens.is_use_news(identified(service, AGENT_TOKEN), service.clock.now)


def test_a_users_list_costs_what_he_owns() -> None:
    """Without a job named: a hundred times as many tasks of others change nothing."""
    service = LocalService()
    ada = new_user(service)
    secret = secret_of(new_token(service, ada))
    steps = []
    for jobs_of_others in (1, 100):
        while len(service.rows("SELECT 1 FROM job WHERE owner_uuid <> :u", u=ada.uuid)) < (
            jobs_of_others
        ):
            add_job(service, ADMIN_TOKEN)
        if jobs_of_others == 1:
            add_job(service, secret)
        steps.append(steps_of_list(service, secret))
    assert steps[1] <= 1.1 * steps[0], steps
    assert steps_of_list(service, ADMIN_TOKEN) > 20 * steps[1], "the measure sees a scan"
    service.close()


def add_job(service: LocalService, secret: str) -> None:
    """Create a job with ten tasks."""
    job = service.as_token(secret, jobs.create, SCRIPT)

    def fill(ctx: Context) -> None:
        statement = (
            "INSERT INTO batch (job_id, sequence, shape_id, state, size, ready, head)"
            " VALUES (:job, 0, 1, 1, 0, 0, 0)"
        )
        ctx.tx.text(statement, {"job": job.id})
        batch = ctx.tx.text("SELECT max(id) FROM batch", {})[0][0]
        for number in range(10):
            task = (job.id << 32) + number
            ctx.tx.text(
                "INSERT INTO task (id, uuid, batch_id, sequence, created_at, modified_at)"
                " VALUES (:id, :uuid, :batch, 0, 1, 1)",
                {"id": task, "uuid": f"t{task}", "batch": batch},
            )

    service.run(fill)


def steps_of_list(service: LocalService, secret: str) -> int:
    """Return how many hundreds of steps of the database's machine a list of tasks takes."""
    assert isinstance(service.store, SqliteStore)
    connection = service.store._connection
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    # Without a condition counters would say how many there are.
    asked = {"filters": [["success", "=", None]]}
    query = parse_query(RESOURCES["job_tasks"], asked, 100)
    connection.set_progress_handler(count, 10)
    page = service.as_token(secret, listing.list_tasks, query)
    connection.set_progress_handler(None, 0)
    assert page.items_available == (10 if secret != ADMIN_TOKEN else page.items_available)
    return counted


def test_scopes_are_kept_as_given(service: LocalService) -> None:
    """In order, each once."""
    scopes = ["GET /arvados/v1/jobs/", "POST /arvados/v1/jobs", "GET /arvados/v1/jobs/"]
    token = new_token(service, new_user(service), scopes=json.dumps(scopes))
    assert json.loads(token.scopes) == scopes[:2]
