-- attempts_of_task: every attempt of a task, first to last
SELECT a.id, a.number, a.state, n.hostname, a.slot, a.memory_kib, a.assigned_at, a.started_at,
    a.ended_at, a.cause, a.exit_code, a.signal, a.peak_memory_kib, a.run_seconds, a.reason,
    a.counted, a.node_fault, a.log_bytes, a.log_dropped_bytes, l.stderr, t.uuid, j.uuid,
    CASE WHEN a.ended_at <= j.logs_removed_at THEN j.logs_removed_at END,
    (
        SELECT json_group_array(o.hostname) FROM seat AS s JOIN node AS o ON o.id = s.node_id
        WHERE s.attempt_id = a.id
    )
FROM attempt AS a
JOIN task AS t ON t.id = a.task_id
JOIN job AS j ON j.id = a.job_id
JOIN node AS n ON n.id = a.node_id
LEFT JOIN tail AS l ON l.attempt_id = a.id
WHERE a.task_id = :task_id
ORDER BY a.number;

-- attempts_newest: the newest attempt of each of these tasks, in their order
SELECT a.id, t.uuid, t.id & 4294967295, t.sequence, a.number, a.state, a.log_bytes,
    CASE WHEN a.ended_at <= j.logs_removed_at THEN j.logs_removed_at END
FROM json_each(:task_ids) AS w
JOIN task AS t ON t.id = w.value
JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
JOIN attempt AS a ON a.id = t.attempt_id
JOIN job AS j ON j.id = a.job_id
ORDER BY w.key;

-- attempts_of_agent: these attempts, where they ran under this agent's node
SELECT a.id, a.number, a.state, n.hostname, a.slot, a.memory_kib, a.assigned_at, a.started_at,
    a.ended_at, a.cause, a.exit_code, a.signal, a.peak_memory_kib, a.run_seconds, a.reason,
    a.counted, a.node_fault, a.log_bytes, a.log_dropped_bytes, NULL, t.uuid, j.uuid,
    CASE WHEN a.ended_at <= j.logs_removed_at THEN j.logs_removed_at END, '[]'
FROM json_each(:attempt_ids) AS w
JOIN attempt AS a ON a.id = w.value
JOIN task AS t ON t.id = a.task_id
JOIN job AS j ON j.id = a.job_id
JOIN node AS n ON n.id = a.node_id
WHERE a.node_id = :node_id;

-- attempt_token: who an attempt's token speaks for
SELECT a.token_hash, a.state, a.task_id, a.job_id, j.owner_uuid
FROM attempt AS a JOIN job AS j ON j.id = a.job_id
WHERE a.id = :attempt_id;

-- attempts_live_on_node: attempts that may have a process on a node
SELECT id FROM attempt WHERE node_id = :node_id AND state < 3 ORDER BY id;

-- attempts_live_of_job: attempts of a job whose record is open
SELECT id FROM attempt WHERE job_id = :job_id AND state < 3 AND state < 2;

-- attempts_end_facts: what deciding the ends of attempts needs
SELECT a.id, a.task_id, a.job_id, a.number, a.node_id, a.agent_id, a.state, a.shape_id, a.memory_kib,
    a.children, a.stop, a.canary, t.sequence, t.progress, t.success, t.spent,
    t.command IS NOT NULL OR j.script IS NULL, s.needs
FROM json_each(:attempt_ids) AS w
JOIN attempt AS a ON a.id = w.value
JOIN task AS t ON t.id = a.task_id
JOIN job AS j ON j.id = a.job_id
JOIN shape AS s ON s.id = a.shape_id;

-- failure_facts: what the failure of a task for good means for its job
SELECT j.uuid, t.uuid, j.runtime_constraints FROM task AS t JOIN job AS j ON j.id = :job_id
WHERE t.id = :task_id;

-- attempt_running: the agent names it for the first time
UPDATE attempt SET state = 1, started_at = :now, missing_since = NULL WHERE id = :attempt_id AND state = 0;

-- attempt_missing: its agent did not name it
UPDATE attempt SET missing_since = :now WHERE id = :attempt_id AND missing_since IS NULL;

-- attempt_found: its agent names it again
UPDATE attempt SET missing_since = NULL WHERE id = :attempt_id;

-- attempt_children: it creates so many tasks; how many that makes
UPDATE attempt SET children = children + :count WHERE id = :attempt_id AND state < 2
RETURNING children;

-- attempt_end: what became of it; its record must be open
UPDATE attempt SET
    state = 3, ended_at = :now, cause = :cause,
    started_at = coalesce(
        started_at, max(assigned_at, :now - CAST(:run_seconds * 1000000 AS INTEGER)), assigned_at
    ),
    exit_code = :exit_code, signal = nullif(:signal, 0), peak_memory_kib = :peak_memory_kib,
    run_seconds = :run_seconds, reason = nullif(:reason, ''), counted = :counted, node_fault = :node_fault,
    family_id = nullif(:family_id, 0), log_bytes = :log_bytes, log_dropped_bytes = :log_dropped_bytes
WHERE id = :attempt_id AND state < 2;

-- attempt_close: its record is closed and its token dead, though its process may live
UPDATE attempt SET state = 2, cause = :cause, reason = :reason, stop = :reason WHERE id = :attempt_id AND state < 2;

-- attempt_gone: the process of a closed attempt is gone
UPDATE attempt SET
    state = 3, ended_at = :now, exit_code = :exit_code, signal = nullif(:signal, 0),
    peak_memory_kib = :peak_memory_kib, run_seconds = :run_seconds, log_bytes = :log_bytes,
    log_dropped_bytes = :log_dropped_bytes
WHERE id = :attempt_id AND state = 2;

-- attempts_stop_job: running attempts of a job are to be stopped (R19)
UPDATE attempt SET stop = :reason
WHERE job_id = :job_id AND state < 3 AND state < 2 AND stop IS NULL;

-- attempts_lost: attempts that no agent has named for a whole lease
SELECT id, node_id FROM attempt WHERE state < 3 AND missing_since < :before;

-- tail_put: the end of an attempt's stderr
INSERT INTO tail (attempt_id, stderr) VALUES (:attempt_id, :stderr)
ON CONFLICT (attempt_id) DO UPDATE SET stderr = excluded.stderr;

-- tail_of: the end of an attempt's stderr as far as it is known
SELECT stderr FROM tail WHERE attempt_id = :attempt_id;

-- assignments_of_node: attempts of a node that its agent has not named yet, with all it must know
SELECT a.id, a.job_id, j.uuid, t.uuid, a.number, t.sequence, t.id & 4294967295, a.slot,
    a.assigned_at, t.parameters, t.command, a.memory_kib, s.needs, y.log_bytes, j.script_hash,
    j.script_remark
FROM attempt AS a
JOIN task AS t ON t.id = a.task_id
JOIN job AS j ON j.id = a.job_id
JOIN tally AS y ON y.job_id = a.job_id
JOIN shape AS s ON s.id = a.shape_id
WHERE a.node_id = :node_id AND a.state < 3 AND a.state = 0 AND a.stop IS NULL
ORDER BY a.id;
