-- explain_nodes: every node that may serve a job and was not deleted, and whether its agent is there
SELECT n.id, n.uuid, n.hostname, n.memory_kib, n.cores, n.scratch_mb, n.slots, n.draining,
    n.draining_reason, n.held_until, n.held_reason, coalesce(a.live, 0),
    n.held_seconds > 0 AND EXISTS (
        SELECT 1 FROM attempt AS t WHERE t.node_id = n.id AND t.state < 3 AND t.canary = 1
    ),
    j.uuid
FROM node AS n
LEFT JOIN agent AS a ON a.id = n.agent_id
LEFT JOIN job AS j ON j.id = n.kept_job_id
WHERE n.deleted_at IS NULL AND (n.job_id IS NULL OR n.job_id = :job_id)
ORDER BY n.id;

-- explain_occupants: live attempts of every node with their needs
SELECT a.node_id, a.job_id, s.needs, a.memory_kib
FROM node AS n
CROSS JOIN attempt AS a INDEXED BY attempt_node_live ON a.node_id = n.id AND a.state < 3
JOIN shape AS s ON s.id = a.shape_id
UNION ALL
SELECT e.node_id, a.job_id, s.needs, a.memory_kib
FROM node AS n
CROSS JOIN seat AS e INDEXED BY seat_node ON e.node_id = n.id AND e.state = 0
JOIN attempt AS a ON a.id = e.attempt_id
JOIN shape AS s ON s.id = a.shape_id;

-- explain_frontier: lowest sequence of a job that is not all complete (R5)
SELECT sequence, todo, running, done, failed FROM level
WHERE job_id = :job_id AND todo + running + failed > 0
ORDER BY sequence LIMIT 1;

-- task_uuid: the uuid of a task
SELECT uuid FROM task WHERE id = :task_id;

-- explain_attempt: where an attempt runs, or how it ended
SELECT a.number, n.hostname, a.slot, a.state, a.assigned_at, a.started_at, a.exit_code, a.signal,
    a.cause, a.reason
FROM attempt AS a JOIN node AS n ON n.id = a.node_id
WHERE a.id = :attempt_id;

-- explain_requeued: how a task waits for another attempt
SELECT q.shape_id, s.needs, q.not_before, q.avoid, q.avoid_until
FROM requeue AS q JOIN shape AS s ON s.id = q.shape_id
WHERE q.task_id = :task_id;

-- explain_holders: some tasks that hold a sequence of a job, a few of each kind
SELECT * FROM (
    SELECT t.uuid, 'running', CAST(NULL AS INTEGER)
    FROM attempt AS a INDEXED BY attempt_job_live JOIN task AS t ON t.id = a.task_id
    WHERE a.job_id = :job_id AND a.state < 3 AND t.sequence = :sequence AND t.state = 1
    ORDER BY t.id LIMIT :limit
) AS running
UNION ALL
SELECT * FROM (
    SELECT t.uuid, 'failed', CAST(NULL AS INTEGER)
    FROM task AS t INDEXED BY task_unwell JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
    WHERE t.id >> 32 = :job_id AND t.state = 3 AND (t.state = 3 OR t.failed_count > 0)
    AND t.sequence = :sequence
    ORDER BY t.id LIMIT :limit
) AS failed
UNION ALL
SELECT * FROM (
    SELECT t.uuid, CASE WHEN q.not_before > :now THEN 'delayed' ELSE 'waiting' END,
        CASE WHEN q.not_before > :now THEN q.not_before END
    FROM requeue AS q JOIN task AS t ON t.id = q.task_id
    WHERE q.task_id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295
    AND q.sequence = :sequence
    ORDER BY q.task_id LIMIT :limit
) AS requeued
UNION ALL
SELECT * FROM (
    SELECT t.uuid, 'child', CAST(NULL AS INTEGER)
    FROM attempt AS a INDEXED BY attempt_job_live
    CROSS JOIN batch AS b INDEXED BY batch_latent
        ON b.creator_attempt_id = a.id AND b.state = 0 AND b.sequence = :sequence
    CROSS JOIN task AS t INDEXED BY task_batch ON t.batch_id = b.id
    WHERE a.job_id = :job_id AND a.state < 3
    LIMIT :limit
) AS children
UNION ALL
SELECT * FROM (
    SELECT t.uuid, 'waiting', CAST(NULL AS INTEGER)
    FROM batch AS b INDEXED BY batch_head
    CROSS JOIN task AS t INDEXED BY task_batch ON t.batch_id = b.id AND t.id >= b.head
    WHERE b.job_id = :job_id AND b.sequence = :sequence AND b.state = 1 AND b.ready > 0
    LIMIT :limit
) AS fresh;

-- explain_lanes: what is ready in a sequence of a job by needs, the most first, and how much in all
SELECT l.shape_id, s.needs, l.ready, sum(l.ready) OVER ()
FROM lane AS l JOIN shape AS s ON s.id = l.shape_id
WHERE l.job_id = :job_id AND l.sequence = :sequence AND l.ready > 0
ORDER BY l.ready DESC, l.shape_id LIMIT :limit;

-- explain_again: tasks of a sequence that wait for another attempt, by what they wait for
SELECT due, shape_id, avoid, count(*), min(not_before), max(avoid_until) FROM (
    SELECT due, shape_id, CASE WHEN avoid_until > :now THEN avoid END AS avoid, not_before, avoid_until
    FROM requeue
    WHERE task_id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295 AND sequence = :sequence
    LIMIT :limit
) AS waiting
GROUP BY due, shape_id, avoid;

-- explain_children: tasks of a sequence that wait for their creator
SELECT coalesce(sum(b.size), 0)
FROM attempt AS a INDEXED BY attempt_job_live
CROSS JOIN batch AS b INDEXED BY batch_latent
    ON b.creator_attempt_id = a.id AND b.state = 0 AND b.sequence = :sequence
WHERE a.job_id = :job_id AND a.state < 3;
