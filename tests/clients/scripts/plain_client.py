"""What google-api-python-client does by itself, without anything of Arvados; run by a test.

Arguments: the discovery document's address, the file of the authority, a user's token, an attempt's
token and its task's uuid.
"""

from __future__ import annotations

import sys
from typing import Any

import httplib2
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError


class WithToken(httplib2.Http):  # type: ignore[misc]
    """Sends a token along."""

    def __init__(self, authority: str, token: str) -> None:
        super().__init__(ca_certs=authority)
        self.token = token

    def request(self, uri: str, method: str = "GET", **more: Any) -> Any:
        headers = {**(more.pop("headers", None) or {}), "Authorization": f"OAuth2 {self.token}"}
        return super().request(uri, method, headers=headers, **more)


def connect(address: str, authority: str, token: str) -> Any:
    """Return a client as its library builds it from the document."""
    http = WithToken(authority, token)
    return build("arvados", "v1", http=http, discoveryServiceUrl=address, cache_discovery=False)


def jobs(api: Any) -> None:
    """Create, list, change, cancel and delete a job; be refused."""
    nowhere = {"min_ram_per_node": 10**12}
    body = {"job": {"command": ["true"], "runtime_constraints": nowhere}}
    made = api.jobs().create(body=body).execute()
    # This library sends a list as the text that Python prints for it: JSON must be given as text.
    found = api.jobs().list(filters=f'[["uuid", "=", "{made["uuid"]}"]]', limit=1).execute()
    assert found["items"] == [made], found
    assert api.jobs().list(count="none", limit=0).execute()["items"] == []
    changed = api.jobs().update(uuid=made["uuid"], body={"priority": 4}).execute()
    assert changed["priority"] == 4, changed
    assert api.jobs().cancel(uuid=made["uuid"]).execute()["state"] == "Cancelled"
    assert api.jobs().delete(uuid=made["uuid"]).execute()["uuid"] == made["uuid"]
    try:
        api.jobs().get(uuid=made["uuid"]).execute()
    except HttpError as error:
        assert error.resp.status == 404, error
    else:
        raise AssertionError("a deleted job is still there")


def tasks(api: Any, uuid: str) -> None:
    """Create children, page through them, delete one, and report."""
    for _ in range(7):
        api.job_tasks().create(body={"sequence": 1}).execute()
    mine = f'[["created_by_job_task_uuid", "=", "{uuid}"]]'
    page = api.job_tasks().list(filters=mine, order="qsequence", limit=5).execute()
    rest = api.job_tasks().list(filters=mine, order="qsequence", limit=5, offset=5).execute()
    numbers = [task["qsequence"] for task in page["items"] + rest["items"]]
    assert numbers == list(range(1, 8)), numbers
    api.job_tasks().delete(uuid=page["items"][0]["uuid"]).execute()
    told = api.job_tasks().update(uuid=uuid, body={"job_task": {"success": True}}).execute()
    assert told["progress"] == 1.0, told


def main(address: str, authority: str, token: str, attempts_token: str, task: str) -> None:
    """Do everything; an AssertionError ends it."""
    api = connect(address, authority, token)
    jobs(api)
    assert api.users().current().execute()["is_admin"]
    made = api.api_client_authorizations().create(body={"scopes": ["GET /"]}).execute()
    reader = connect(address, authority, made["api_token"])
    assert reader.users().list().execute()["items"]
    tasks(connect(address, authority, attempts_token), task)
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
