-- attempts_of_job: attempts of a job that began after a given one, in the order in which they began
SELECT a.id, t.id & 4294967295, t.sequence, t.uuid, a.number, a.state, n.hostname, a.slot,
    a.assigned_at, a.started_at, a.ended_at, a.cause, a.exit_code, a.signal, a.run_seconds,
    a.log_bytes, (
        SELECT json_group_array(o.hostname) FROM seat AS s JOIN node AS o ON o.id = s.node_id
        WHERE s.attempt_id = a.id
    )
FROM attempt AS a
JOIN task AS t ON t.id = a.task_id
JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
JOIN node AS n ON n.id = a.node_id
WHERE a.task_id >> 32 = :job_id AND a.id > :after
ORDER BY a.id
LIMIT :limit;

-- attempts_of_tasks: every attempt of these tasks, task after task, first to last
SELECT a.id, t.uuid, t.id & 4294967295, t.sequence, a.number, a.state, a.log_bytes,
    CASE WHEN a.ended_at <= j.logs_removed_at THEN j.logs_removed_at END
FROM json_each(:task_ids) AS w
JOIN task AS t ON t.id = w.value
JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
JOIN attempt AS a ON a.task_id = t.id
JOIN job AS j ON j.id = a.job_id
ORDER BY w.key, a.number;

-- attempts_named: these attempts, each given as [task_id, number], in their order
SELECT a.id, t.uuid, t.id & 4294967295, t.sequence, a.number, a.state, a.log_bytes,
    CASE WHEN a.ended_at <= j.logs_removed_at THEN j.logs_removed_at END
FROM json_each(:named) AS w
JOIN task AS t ON t.id = w.value ->> 0
JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
JOIN attempt AS a ON a.task_id = t.id AND a.number = w.value ->> 1
JOIN job AS j ON j.id = a.job_id
ORDER BY w.key;
