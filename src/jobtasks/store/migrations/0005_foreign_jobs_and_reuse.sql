-- Jobs whose own manager runs them (R7b), and what finding a job like a new one needs. The views list
-- their columns, so that a column added later moves none.

ALTER TABLE job ADD COLUMN script_parameters_digest TEXT; -- null: made before it was kept, never reused
ALTER TABLE job ADD COLUMN tasks_summary TEXT; -- as a foreign job's manager wrote it; null: counted
ALTER TABLE task ADD COLUMN failed_log TEXT; -- of a foreign job's task: no attempt of ours has a tail
ALTER TABLE task ADD COLUMN log TEXT;
CREATE INDEX job_digest ON job (script_parameters_digest, state) WHERE script_parameters_digest IS NOT NULL;

DROP VIEW visible_task;
CREATE VIEW visible_task AS
SELECT
    t.id AS id,
    t.uuid AS uuid,
    t.id >> 32 AS job_id,
    t.id & 4294967295 AS qsequence,
    t.batch_id AS batch_id,
    t.sequence AS sequence,
    t.state AS state,
    t.parameters AS parameters,
    t.runtime_constraints AS runtime_constraints,
    t.command AS command,
    t.progress AS progress,
    t.success AS success,
    t.output AS output,
    t.created_at AS created_at,
    t.modified_at AS modified_at,
    t.started_at AS started_at,
    t.finished_at AS finished_at,
    t.attempts AS attempts,
    t.attempt_id AS attempt_id,
    t.failed_count AS failed_count,
    t.failed_at AS failed_at,
    coalesce(t.failed_log, failed_tail.stderr) AS failed_log,
    coalesce(t.log, newest_tail.stderr) AS log,
    b.state AS batch_state,
    b.shape_id AS shape_id,
    b.creator_attempt_id AS creator_attempt_id,
    creator.uuid AS created_by_job_task_uuid,
    j.uuid AS job_uuid,
    j.owner_uuid AS owner_uuid,
    j.modified_by_user_uuid AS modified_by_user_uuid,
    j.modified_by_client_uuid AS modified_by_client_uuid
FROM task AS t
JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
JOIN job AS j ON j.id = t.id >> 32
LEFT JOIN task AS creator ON creator.id = b.creator_task_id
LEFT JOIN tail AS failed_tail ON failed_tail.attempt_id = t.failed_attempt_id
LEFT JOIN tail AS newest_tail ON newest_tail.attempt_id = t.attempt_id;

-- A job with its counters.
CREATE VIEW counted_job AS
SELECT
    j.id AS id,
    j.uuid AS uuid,
    j.owner_uuid AS owner_uuid,
    j.created_at AS created_at,
    j.modified_at AS modified_at,
    j.modified_by_user_uuid AS modified_by_user_uuid,
    j.modified_by_client_uuid AS modified_by_client_uuid,
    j.state AS state,
    j.managed AS managed,
    j.priority AS priority,
    j.submit_id AS submit_id,
    j.script AS script,
    j.script_version AS script_version,
    j.supplied_script_version AS supplied_script_version,
    j.repository AS repository,
    j.script_parameters AS script_parameters,
    j.command AS command,
    j.runtime_constraints AS runtime_constraints,
    j.started_at AS started_at,
    j.finished_at AS finished_at,
    j.cancelled_at AS cancelled_at,
    j.cancelled_by_user_uuid AS cancelled_by_user_uuid,
    j.cancelled_by_client_uuid AS cancelled_by_client_uuid,
    j.is_locked_by_uuid AS is_locked_by_uuid,
    j.output AS output,
    j.output_truncated AS output_truncated,
    j.log AS log,
    j.description AS description,
    j.nondeterministic AS nondeterministic,
    j.components AS components,
    j.arvados_sdk_version AS arvados_sdk_version,
    j.docker_image_locator AS docker_image_locator,
    j.seeded AS seeded,
    j.logs_removed_at AS logs_removed_at,
    j.has_logs AS has_logs,
    j.script_parameters_digest AS script_parameters_digest,
    j.tasks_summary AS tasks_summary,
    y.todo AS todo,
    y.running AS running_tasks,
    y.done AS done,
    y.failed AS failed,
    y.live AS live,
    y.halt AS halt,
    y.frontier AS frontier
FROM job AS j
JOIN tally AS y ON y.job_id = j.id;

-- A job as readers see it: where its processes may be, too, which costs a look at each of them.
DROP VIEW visible_job;
CREATE VIEW visible_job AS
SELECT
    c.*,
    (
        SELECT json_group_array(n.uuid) FROM node AS n
        WHERE n.id IN (SELECT a.node_id FROM attempt AS a WHERE a.job_id = c.id AND a.state < 3)
    ) AS node_uuids
FROM counted_job AS c;
