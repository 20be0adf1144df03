-- export_owner: whose a job is, as he is found elsewhere
SELECT uuid, username, email FROM user WHERE uuid = :uuid;

-- export_families: kinds of failures of a job
SELECT name, cause, exit_code, signal, message, first_at, last_at, sample_message
FROM family WHERE job_id = :job_id ORDER BY id;

-- export_task_sizes: the next tasks of a job, and bytes of their texts
SELECT t.id,
    length(CAST(t.parameters AS BLOB)) + length(CAST(t.runtime_constraints AS BLOB))
    + coalesce(length(CAST(t.command AS BLOB)), 0) + coalesce(length(CAST(t.output AS BLOB)), 0)
    + coalesce(length(CAST(t.failed_log AS BLOB)), 0) + coalesce(length(CAST(t.log AS BLOB)), 0)
FROM task AS t JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
WHERE t.id > :after AND t.id <= (:job_id << 32) + 4294967295
ORDER BY t.id LIMIT :limit;

-- export_tasks: tasks of a job after one, up to another
SELECT t.id, t.uuid, t.id & 4294967295, t.sequence, t.state, t.created_at, t.modified_at,
    b.creator_task_id & 4294967295, b.creator_sequence, t.parameters, t.runtime_constraints, t.command,
    t.progress, t.success, t.output, t.started_at, t.finished_at, t.attempts, t.failed_count,
    t.failed_at, t.failed_log, t.log, t.spent, q.not_before
FROM task AS t JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
LEFT JOIN requeue AS q ON q.task_id = t.id
WHERE t.id > :after AND t.id <= :last
ORDER BY t.id;

-- export_attempt_sizes: the next attempts of a job in the order in which they began, and bytes of their stderr
SELECT a.id, coalesce(length(CAST(l.stderr AS BLOB)), 0)
FROM attempt AS a LEFT JOIN tail AS l ON l.attempt_id = a.id
WHERE a.task_id >> 32 = :job_id AND a.id > :after
ORDER BY a.id LIMIT :limit;

-- export_attempts: attempts of a job after one, up to another, with what their tasks know of them
SELECT a.id, t.uuid, t.id & 4294967295, a.number, n.uuid, n.hostname, a.slot, a.assigned_at, a.ended_at,
    a.started_at, a.memory_kib, a.children, a.cause, a.exit_code, a.signal, a.peak_memory_kib,
    a.run_seconds, a.reason, a.counted, a.node_fault, l.stderr, f.name, t.attempt_id, t.failed_attempt_id,
    a.log_bytes, a.log_dropped_bytes
FROM attempt AS a
JOIN task AS t ON t.id = a.task_id
JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
JOIN node AS n ON n.id = a.node_id
LEFT JOIN tail AS l ON l.attempt_id = a.id
LEFT JOIN family AS f ON f.id = a.family_id
WHERE a.task_id >> 32 = :job_id AND a.id > :after AND a.id <= :last
ORDER BY a.id;

-- export_seats: further nodes of gangs among these attempts
SELECT s.attempt_id, n.uuid, n.hostname, s.slot
FROM json_each(:attempt_ids) AS w JOIN seat AS s ON s.attempt_id = w.value JOIN node AS n ON n.id = s.node_id
ORDER BY s.attempt_id, n.id;

-- export_next_qsequence: the next number of arrival of a job
SELECT next_qsequence FROM tally WHERE job_id = :job_id;
