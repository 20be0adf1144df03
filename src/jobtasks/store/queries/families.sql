-- families_of_job: how a job's attempts failed, the most frequent first, each with its newest attempt
SELECT f.name, f.cause, f.exit_code, f.signal, f.message, f.attempts, f.tasks, f.first_at, f.last_at,
    f.sample_message, t.uuid, t.sequence, t.id & 4294967295, a.number, a.reason, n.hostname, a.memory_kib,
    a.peak_memory_kib, a.run_seconds, a.log_bytes
FROM family AS f
LEFT JOIN attempt AS a ON a.id = f.sample_attempt_id
LEFT JOIN task AS t ON t.id = a.task_id
LEFT JOIN node AS n ON n.id = a.node_id
WHERE f.job_id = :job_id
ORDER BY f.attempts DESC, f.id;

-- family_named: one family of a job
SELECT id, tasks FROM family WHERE job_id = :job_id AND name = :name;

-- families_count: how many families a job has
SELECT count(*) FROM family WHERE job_id = :job_id;

-- family_grow: one more attempt failed in the same way
UPDATE family SET
    attempts = attempts + 1, tasks = tasks + :tasks, last_at = :now,
    sample_attempt_id = :attempt_id, sample_message = :sample
WHERE job_id = :job_id AND name = :name
RETURNING id;

-- family_add: an attempt failed in a way that is new
INSERT INTO family (
    job_id, name, cause, exit_code, signal, message, attempts, tasks, first_at, last_at,
    sample_attempt_id, sample_message
)
VALUES (
    :job_id, :name, :cause, :exit_code, :signal, :message, 1, :tasks, :now, :now, :attempt_id, :sample
);

-- family_recovers: a task that failed for good is failed no more
UPDATE family SET tasks = tasks - 1
WHERE id = (
    SELECT a.family_id FROM task AS t JOIN attempt AS a ON a.id = t.failed_attempt_id
    WHERE t.id = :task_id AND t.state = 3
);

-- families_recover: none of a job's tasks is failed any more
UPDATE family SET tasks = 0 WHERE job_id = :job_id AND tasks > 0;

-- family_is_reset: no task of a family is failed any more
UPDATE family SET tasks = 0 WHERE id = :family_id;

-- family_forgets: attempts of a task that is deleted are no more
UPDATE family SET attempts = attempts - (
    SELECT count(*) FROM attempt AS a WHERE a.task_id = :task_id AND a.family_id = family.id
)
WHERE id IN (SELECT family_id FROM attempt WHERE task_id = :task_id AND family_id IS NOT NULL);

-- families_delete: forget how a job's attempts failed
DELETE FROM family WHERE job_id = :job_id;

-- family_peak: the most memory that was measured of tasks of a family that are failed now
SELECT max(a.peak_memory_kib) FROM attempt AS a
JOIN task AS t ON t.id = a.task_id AND t.state = 3 AND t.failed_attempt_id = a.id
WHERE a.family_id = :family_id;

-- family_tasks: tasks of a family that are failed now, in order of the attempts that failed last
SELECT a.id, a.memory_kib, t.id, t.sequence, t.runtime_constraints, b.id, b.shape_id, b.creator_task_id,
    b.creator_attempt_id, b.creator_sequence
FROM attempt AS a
JOIN task AS t ON t.id = a.task_id AND t.state = 3 AND t.failed_attempt_id = a.id
JOIN batch AS b ON b.id = t.batch_id AND b.state = 1
WHERE a.family_id = :family_id AND a.id > :after
ORDER BY a.id LIMIT :limit;
