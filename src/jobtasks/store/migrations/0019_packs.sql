-- What the directory of a job's script held when the job was made or last tried again.

ALTER TABLE job ADD COLUMN script_hash TEXT; -- null: nodes start the script where it is, if they have it
ALTER TABLE job ADD COLUMN script_remark TEXT; -- why it is null, as part of a sentence; null: nobody has looked
CREATE INDEX job_script_hash ON job (script_hash) WHERE script_hash IS NOT NULL;

DROP VIEW visible_job;
DROP VIEW counted_job;
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
    j.script_hash AS script_hash,
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
CREATE VIEW visible_job AS
SELECT
    c.*,
    (
        SELECT json_group_array(n.uuid) FROM node AS n
        WHERE n.id IN (
            SELECT a.node_id FROM attempt AS a WHERE a.job_id = c.id AND a.state < 3
            UNION ALL
            SELECT s.node_id FROM attempt AS a JOIN seat AS s ON s.attempt_id = a.id AND s.state = 0
            WHERE a.job_id = c.id AND a.state < 3
        )
    ) AS node_uuids
FROM counted_job AS c;
