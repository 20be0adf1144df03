"""/metrics tells what happened, in the form that Prometheus reads."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.api.conftest import AGENT, Api

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(api: Api) -> Values:
    """Return every sample, read by Prometheus' own parser."""
    answer = api.http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def changed(before: Values, after: Values, name: str, **labels: str) -> float:
    key = (name, tuple(sorted(labels.items())))
    return after[key] - before.get(key, 0.0)


def test_what_happens_is_counted(api: Api) -> None:
    """Tasks, ends by cause, claims, commits, renewals, log bytes, requests."""
    before = scrape(api)
    api.job()
    node = api.node()
    given = node.next_assignment()
    node.push_log(given.attempt, b"x" * 100)
    during = scrape(api)
    assert changed(before, during, "jobtasks_tasks", state="running") == 1
    assert changed(before, during, "jobtasks_jobs", state="Running") == 1
    assert changed(before, during, "jobtasks_slots_live") == 2
    assert changed(before, during, "jobtasks_attempts_live") == 1
    node.end(given.attempt)
    after = scrape(api)
    assert changed(before, after, "jobtasks_tasks", state="complete") == 1
    assert changed(before, after, "jobtasks_attempts_ended_total", cause="exit") == 1
    assert changed(before, after, "jobtasks_log_bytes_total") == 100
    assert changed(before, after, "jobtasks_lease_renewals_total") >= 2
    assert changed(before, after, "jobtasks_claim_seconds_count") >= 1
    assert changed(before, after, "jobtasks_commit_seconds_count") >= 3
    assert changed(before, after, "jobtasks_commit_seconds_bucket", le="+Inf") >= 3
    assert changed(before, after, "jobtasks_writes_total") >= 3
    created = {"method": "POST", "route": "/arvados/v1/jobs", "status": "200"}
    assert changed(before, after, "jobtasks_requests_total", **created) == 1
    assert after[("jobtasks_requests_open", ())] == 1


def test_what_waits_has_an_age(api: Api) -> None:
    """Of queued jobs, and of tasks that could start."""
    api.job(runtime_constraints={"min_ram_per_node": 10**12})
    queued = scrape(api)
    assert queued[("jobtasks_oldest_queued_job_seconds", ())] > 0
    node = api.node(slots=1)
    api.job()
    api.job()
    node.next_assignment()
    assert scrape(api)[("jobtasks_oldest_ready_task_seconds", ())] > 0


def test_unknown_methods_and_addresses_do_not_make_series(api: Api) -> None:
    """Whatever clients invent shares one series."""
    for number in range(5):
        api.http.request(f"METHOD{number}", "/arvados/v1/jobs")
        api.http.get(f"/nothing/{number}")
    series = [key for key in scrape(api) if key[0] == "jobtasks_requests_total"]
    assert {dict(labels)["method"] for _, labels in series} <= {
        *("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "other")
    }
    assert not [labels for _, labels in series if "nothing" in dict(labels)["route"]]


@pytest.mark.rule("R32")
def test_only_administrators_read_the_metrics(api: Api) -> None:
    """401 without a token, 403 with another's: they are about everyone's work."""
    with api.client(None) as nobody, api.client(AGENT) as agent:
        assert nobody.get("/metrics").status_code == 401
        assert agent.get("/metrics").status_code == 403
