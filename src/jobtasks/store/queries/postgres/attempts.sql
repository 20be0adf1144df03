-- attempt_end: what became of it; its record must be open
UPDATE attempt SET
    state = 3, ended_at = :now, cause = :cause,
    started_at = coalesce(
        started_at,
        greatest(assigned_at, :now - trunc(CAST(:run_seconds AS DOUBLE PRECISION) * 1000000)::bigint)
    ),
    exit_code = :exit_code, signal = nullif(:signal, 0), peak_memory_kib = :peak_memory_kib,
    run_seconds = :run_seconds, reason = nullif(:reason, ''), counted = :counted, node_fault = :node_fault,
    family_id = nullif(:family_id, 0), log_bytes = :log_bytes, log_dropped_bytes = :log_dropped_bytes
WHERE id = :attempt_id AND state < 2;

-- attempt_last_id: highest id of an attempt ever given
SELECT greatest(
    (SELECT seq FROM counter WHERE name = 'attempt'), (SELECT id FROM attempt ORDER BY id DESC LIMIT 1)
);

-- attempts_sweep: attempts of tasks that are swept; the highest of their ids is not given again
WITH gone AS (DELETE FROM attempt WHERE task_id IN (SELECT value FROM json_each(:task_ids)) RETURNING id)
UPDATE counter SET seq = greatest(seq, (SELECT max(id) FROM gone))
WHERE name = 'attempt' AND seq < (SELECT max(id) FROM gone);

-- attempts_named: these attempts, each given as [task_id, number], in their order
SELECT a.id, t.uuid, t.id & 4294967295, t.sequence, a.number, a.state, a.log_bytes,
    CASE WHEN a.ended_at <= j.logs_removed_at THEN j.logs_removed_at END
FROM json_array_elements(CAST(:named AS JSON)) WITH ORDINALITY AS w (value, key)
JOIN task AS t ON t.id = CAST(w.value ->> 0 AS BIGINT)
JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
JOIN attempt AS a ON a.task_id = t.id AND a.number = CAST(w.value ->> 1 AS BIGINT)
JOIN job AS j ON j.id = a.job_id
ORDER BY w.key;
