#!/usr/bin/env python3
"""A task as programs of crunch are that know Arvados alone, and their environment.

The first task makes one for each number, each of these reports its square, the last one adds up.
"""

import os

import arvados
from arvados.util import keyset_list_all

api = arvados.api("v1")
task = api.job_tasks().get(uuid=os.environ["TASK_UUID"]).execute()
job = api.jobs().get(uuid=os.environ["JOB_UUID"]).execute()


def create(sequence: int, **parameters: object) -> None:
    body = {
        "job_uuid": job["uuid"],
        "created_by_job_task_uuid": task["uuid"],
        "sequence": sequence,
        "parameters": parameters,
    }
    api.job_tasks().create(body=body).execute()


def finish(output: "str | None") -> None:
    body = {"output": output, "success": True, "progress": 1.0}
    api.job_tasks().update(uuid=task["uuid"], body=body).execute()


assert api.users().current().execute()["uuid"] == job["owner_uuid"]
if task["sequence"] == 0:
    for number in range(job["script_parameters"]["count"]):
        create(1, number=number)
    create(2)
    finish(None)
elif task["sequence"] == 1:
    finish(str(task["parameters"]["number"] ** 2))
else:
    squares = [["job_uuid", "=", job["uuid"]], ["sequence", "=", 1]]
    found = keyset_list_all(api.job_tasks().list, filters=squares)
    finish(str(sum(int(square["output"]) for square in found)))
