-- job_by_uuid: a job as readers see it
SELECT * FROM visible_job WHERE uuid = :uuid;

-- job_by_id: a job with its counters
SELECT * FROM counted_job WHERE id = :job_id;

-- job_add: a new job
INSERT INTO job (
    uuid, owner_uuid, created_at, modified_at, modified_by_user_uuid, state, managed, priority, script,
    script_version, supplied_script_version, repository, script_parameters, script_parameters_digest,
    command, runtime_constraints, description, nondeterministic, components, submit_id, started_at,
    finished_at, cancelled_at, cancelled_by_user_uuid, is_locked_by_uuid, output, log, tasks_summary,
    script_hash, script_remark
)
VALUES (
    :uuid, :owner_uuid, :now, :now, :owner_uuid, :state, :managed, :priority, :script,
    :script_version, :supplied_script_version, :repository, :script_parameters,
    :script_parameters_digest, :command, :runtime_constraints, :description, :nondeterministic,
    :components, :submit_id, :started_at, :finished_at, :cancelled_at, :cancelled_by_user_uuid,
    :is_locked_by_uuid, :output, :log, :tasks_summary, :script_hash, :script_remark
);

-- job_update: what an owner may change
UPDATE job SET
    priority = :priority, description = :description, nondeterministic = :nondeterministic,
    components = :components, script = :script, script_version = :script_version,
    repository = :repository, script_parameters = :script_parameters,
    script_parameters_digest = :script_parameters_digest,
    supplied_script_version = :supplied_script_version, command = :command,
    runtime_constraints = :runtime_constraints, modified_at = :now, modified_by_user_uuid = :user_uuid
WHERE id = :job_id AND state = :state;

-- job_packed: what the directory of a queued job's script holds by now
UPDATE job SET script_hash = :script_hash, script_remark = :script_remark
WHERE id = :job_id AND state = 'Queued';

-- job_write: what its own manager may change of a foreign job besides (R7b)
UPDATE job SET
    state = :state, started_at = :started_at, finished_at = :finished_at, output = :output,
    output_truncated = 0, log = :log, tasks_summary = :tasks_summary,
    is_locked_by_uuid = :is_locked_by_uuid, modified_at = :now, modified_by_user_uuid = :user_uuid
WHERE id = :job_id AND state = :old_state AND managed = 0;

-- job_hand_over: a queued job is run by a manager of its own from now on (R7b)
UPDATE job SET managed = 0 WHERE id = :job_id AND state = 'Queued' AND managed = 1;

-- jobs_queued_count: how many jobs wait to be started, whoever's they are
SELECT count(*) FROM job WHERE state = 'Queued';

-- jobs_queued: jobs that wait to be started, oldest first
SELECT id, uuid, runtime_constraints, seeded, priority FROM job
WHERE state = 'Queued' AND managed = 1 AND id > :after_job
ORDER BY id LIMIT :limit;

-- start_waits: jobs that wait for several free nodes, and since when (R18)
SELECT job_id, since FROM start_wait;

-- start_wait_begin: a job waits for several free nodes
INSERT INTO start_wait (job_id, since) VALUES (:job_id, :now);

-- start_waits_since: no job began to wait in the future, after a clock was set back
UPDATE start_wait SET since = :now WHERE since > :now;

-- start_wait_end: a job waits for no nodes any more
DELETE FROM start_wait WHERE job_id = :job_id;

-- job_start: a queued job runs
UPDATE job SET
    state = 'Running', started_at = coalesce(started_at, :now), seeded = 1, has_logs = 1,
    modified_at = :now
WHERE id = :job_id AND state = 'Queued' AND managed = 1;

-- job_finish: a running job ends by what became of its tasks
UPDATE job SET
    state = :state, finished_at = :now, modified_at = :now, output = :output,
    output_truncated = :output_truncated, log = :log
WHERE id = :job_id AND state = 'Running';

-- job_cancel: a job that is not over is cancelled
UPDATE job SET
    state = 'Cancelled', cancelled_at = :now, cancelled_by_user_uuid = :user_uuid, log = :log,
    modified_at = :now, modified_by_user_uuid = :user_uuid
WHERE id = :job_id AND state IN ('Queued', 'Running');

-- job_requeue: a failed or cancelled job is queued again (R23)
UPDATE job SET
    state = 'Queued', finished_at = NULL, cancelled_at = NULL, cancelled_by_user_uuid = NULL,
    cancelled_by_client_uuid = NULL, output = NULL, output_truncated = 0, log = NULL,
    runtime_constraints = :runtime_constraints, modified_at = :now, modified_by_user_uuid = :user_uuid
WHERE id = :job_id AND state IN ('Failed', 'Cancelled');

-- job_delete: forget a job
DELETE FROM job WHERE id = :job_id AND state = :state;

-- job_outputs: outputs of a job's tasks in order of sequence, then qsequence (R20)
SELECT sequence, id, output FROM task INDEXED BY task_output
WHERE id >> 32 = :job_id AND output IS NOT NULL
AND (sequence, id) > (:after_sequence, :after_id) AND sequence >= :from_sequence
AND state = 2
ORDER BY sequence, id LIMIT :limit;

-- jobs_over: which of these jobs are over or gone, and have no process left
SELECT w.value FROM json_each(:uuids) AS w
LEFT JOIN job AS j ON j.uuid = w.value
LEFT JOIN tally AS y ON y.job_id = j.id
WHERE j.id IS NULL OR (j.state NOT IN ('Queued', 'Running') AND y.live = 0);

-- job_failed_tasks: tasks that failed for good, and why the last attempt ended
SELECT t.uuid, a.cause, a.exit_code, a.signal, a.reason
FROM task AS t JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
LEFT JOIN attempt AS a ON a.id = t.attempt_id
WHERE t.id >> 32 = :job_id AND t.state = 3 AND (t.state = 3 OR t.failed_count > 0)
ORDER BY t.id LIMIT :limit;
