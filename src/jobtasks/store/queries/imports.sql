-- import_reserve: an id for a job that arrives; its row is taken away at once and comes back at the end
INSERT INTO job (uuid, owner_uuid, created_at, modified_at, state)
VALUES (:uuid, :owner_uuid, :now, :now, 'Queued');

-- import_release: no reader sees the job until all of it is there
DELETE FROM job WHERE id = :job_id AND state = 'Queued';

-- import_begin: the job arrives as a whole
UPDATE arrival SET job_id = :job_id, job_uuid = :job_uuid WHERE id = :arrival_id AND job_id IS NULL;

-- import_of: whether a job is arriving at this moment
SELECT id FROM arrival WHERE job_uuid = :job_uuid;

-- imports_count: how many jobs are arriving
SELECT count(*) FROM arrival WHERE job_id IS NOT NULL;

-- import_users_with_email: who has an address
SELECT uuid FROM user WHERE email = :email ORDER BY id LIMIT 2;

-- import_known_task: one of these names that a task has already, and what became of its batch
SELECT t.uuid, t.id >> 32, b.state
FROM json_each(:uuids) AS w JOIN task AS t ON t.uuid = w.value LEFT JOIN batch AS b ON b.id = t.batch_id
LIMIT 1;

-- import_sequence: the sequence of a task
SELECT sequence FROM task WHERE id = :task_id;

-- import_task_add: a task as it was elsewhere
INSERT INTO task (
    id, uuid, batch_id, sequence, state, parameters, runtime_constraints, command, progress, success,
    output, created_at, modified_at, started_at, finished_at, attempts, failed_count, failed_at,
    failed_log, log, spent
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- import_batch_grow: tasks come to a batch, of which so many were never claimed
UPDATE batch SET
    size = size + :count, head = CASE WHEN ready = 0 THEN :head ELSE head END, ready = ready + :ready
WHERE id = :batch_id AND state = 2;

-- import_places: tasks of which attempts arrive
SELECT t.id, t.uuid, b.shape_id
FROM json_each(:task_ids) AS w JOIN task AS t ON t.id = w.value JOIN batch AS b ON b.id = t.batch_id;

-- import_node: a node by its name, deleted or not
SELECT id FROM node WHERE uuid = :uuid;

-- import_node_add: a node of another server: attempts name it, it takes no work
INSERT INTO node (
    uuid, lasting_id, hostname, engine, slots, memory_kib, cores, scratch_mb, created_at, modified_at,
    deleted_at
)
VALUES (:uuid, :lasting_id, :hostname, 'elsewhere', 0, 0, 0, 0, :now, :now, :now);

-- import_attempt_add: an attempt that ended elsewhere; nothing has its token
INSERT INTO attempt (
    id, task_id, job_id, number, node_id, agent_id, slot, shape_id, memory_kib, state, token_hash,
    children, assigned_at, started_at, ended_at, cause, exit_code, signal, peak_memory_kib, run_seconds,
    reason, counted, node_fault, family_id, log_bytes, log_dropped_bytes
)
VALUES (
    :id, :task_id, :job_id, :number, :node_id, 0, :slot, :shape_id, :memory_kib, 3, :token_hash,
    :children, :assigned_at, :started_at, :ended_at, :cause, :exit_code, :signal, :peak_memory_kib,
    :run_seconds, :reason, :counted, :node_fault, :family_id, :log_bytes, :log_dropped_bytes
)
ON CONFLICT (task_id, number) DO NOTHING;

-- import_task_newest: which attempt was a task's newest
UPDATE task SET attempt_id = :attempt_id WHERE id = :task_id AND attempt_id IS NULL;

-- import_task_failed: which attempt a task failed by
UPDATE task SET failed_attempt_id = :attempt_id WHERE id = :task_id AND failed_attempt_id IS NULL;

-- import_seat_add: a further node that a gang had
INSERT INTO seat (attempt_id, node_id, slot, state) VALUES (:attempt_id, :node_id, :slot, 1);

-- import_family_add: a kind of failure; its attempts are counted when they are there
INSERT INTO family (
    job_id, name, cause, exit_code, signal, message, attempts, tasks, first_at, last_at,
    sample_attempt_id, sample_message
)
VALUES (
    :job_id, :name, :cause, :exit_code, :signal, :message, 0, 0, :first_at, :last_at, 0, :sample_message
);

-- import_unlike_attempts: a task that its attempts contradict
SELECT t.uuid FROM task AS t LEFT JOIN attempt AS a ON a.task_id = t.id
WHERE t.id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295
GROUP BY t.id
HAVING t.attempts <> count(a.id) OR t.attempts <> coalesce(max(a.number), 0)
OR t.failed_count <> coalesce(sum(a.counted + a.node_fault), 0)
OR (t.attempts > 0 AND coalesce(t.attempt_id, 0) <> max(CASE WHEN a.number = t.attempts THEN a.id END))
OR (t.failed_count = 0 AND t.failed_attempt_id IS NOT NULL)
LIMIT 1;

-- import_unlike_creator: a task whose creator is there and not complete (R3)
SELECT c.uuid FROM batch AS b JOIN task AS c ON c.id = b.creator_task_id AND c.state <> 2
WHERE b.job_id = :job_id AND b.size > 0 LIMIT 1;

-- import_unlike_state: a task that a complete job cannot have (R20)
SELECT uuid FROM task
WHERE id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295 AND state <> 2 LIMIT 1;

-- import_job_add: a job as it was elsewhere
INSERT INTO job (
    id, uuid, owner_uuid, created_at, modified_at, modified_by_user_uuid, modified_by_client_uuid, state,
    managed, priority, submit_id, script, script_version, supplied_script_version, repository,
    script_parameters, script_parameters_digest, command, runtime_constraints, started_at, finished_at,
    cancelled_at, cancelled_by_user_uuid, cancelled_by_client_uuid, is_locked_by_uuid, output,
    output_truncated, log, description, nondeterministic, components, arvados_sdk_version,
    docker_image_locator, seeded, logs_removed_at, tasks_summary,
    script_hash
)
VALUES (
    :job_id, :uuid, :owner_uuid, :created_at, :modified_at, :modified_by_user_uuid,
    :modified_by_client_uuid, :state, :managed, :priority, :submit_id, :script, :script_version,
    :supplied_script_version, :repository, :script_parameters, :script_parameters_digest, :command,
    :runtime_constraints, :started_at, :finished_at, :cancelled_at, :cancelled_by_user_uuid,
    :cancelled_by_client_uuid, :is_locked_by_uuid, :output, :output_truncated, :log, :description,
    :nondeterministic, :components, :arvados_sdk_version, :docker_image_locator, :seeded,
    :logs_removed_at, :tasks_summary, :script_hash
);

-- import_batches: all tasks of a job that arrived are there
UPDATE batch SET state = 1, arrival_id = NULL
WHERE job_id = :job_id AND state = 2 AND arrival_id = :arrival_id;

-- import_waits: tasks of a job that is there now wait for their next attempts
UPDATE requeue SET due = CASE WHEN not_before <= :now THEN 1 ELSE 0 END
WHERE task_id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295 AND due = 2;

-- import_families: how many attempts and tasks failed in each way, counted from rows
UPDATE family SET
    attempts = (SELECT count(*) FROM attempt AS a WHERE a.family_id = family.id),
    tasks = (
        SELECT count(*) FROM attempt AS a JOIN task AS t ON t.id = a.task_id
        WHERE a.family_id = family.id AND t.state = 3 AND t.failed_attempt_id = a.id
    ),
    sample_attempt_id = coalesce((SELECT max(a.id) FROM attempt AS a WHERE a.family_id = family.id), 0)
WHERE job_id = :job_id;

-- import_lineage: what tasks of each sequence created, counted from batches
INSERT INTO lineage (job_id, creator_sequence, sequence, tasks, creators)
SELECT b.job_id, coalesce(b.creator_sequence, -1), b.sequence, sum(b.size), count(DISTINCT b.creator_task_id)
FROM batch AS b WHERE b.job_id = :job_id AND b.state = 1
GROUP BY b.job_id, coalesce(b.creator_sequence, -1), b.sequence;

-- import_log_bytes: what logs of a job's attempts amount to
UPDATE tally SET log_bytes = (
    SELECT coalesce(sum(a.log_bytes), 0) FROM attempt AS a
    WHERE a.task_id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295
)
WHERE job_id = :job_id;

-- import_remember: a stream that was imported, so that it is known again
INSERT INTO idempotency (holder, key, body_hash, answer, created_at)
VALUES (:holder, :key, :body_hash, :answer, :now)
ON CONFLICT (holder, key) DO UPDATE SET answer = excluded.answer, created_at = excluded.created_at;

-- import_known: what was made of a stream
SELECT answer FROM idempotency WHERE holder = :holder AND key = :key;

-- import_hide_batch: tasks of a foreign job that arrive are not there yet
UPDATE batch SET state = 2 WHERE id = :batch_id AND size = 0;

-- import_running: tasks of a foreign job that its own manager runs
UPDATE tally SET running = (SELECT coalesce(sum(running), 0) FROM level WHERE job_id = :job_id)
WHERE job_id = :job_id;
