-- timeline_attempts: attempts of a job that began after a given one, as far as a timeline needs them
SELECT a.id, a.node_id, a.slot, a.assigned_at, a.started_at, a.ended_at, a.counted + a.node_fault, CASE
    WHEN EXISTS (SELECT 1 FROM seat AS s WHERE s.attempt_id = a.id)
    THEN (SELECT json_group_array(json_array(s.node_id, s.slot)) FROM seat AS s WHERE s.attempt_id = a.id)
END
FROM attempt AS a
WHERE a.task_id >> 32 = :job_id AND a.id > :after
ORDER BY a.id LIMIT :limit;

-- timeline_live: attempts of a job that may have a process
SELECT id FROM attempt WHERE job_id = :job_id AND state < 3;

-- timeline_again: when these attempts began and ended, and whether they failed
SELECT a.id, a.started_at, a.ended_at, a.counted + a.node_fault
FROM json_each(:attempt_ids) AS w JOIN attempt AS a ON a.id = w.value;

-- timeline_nodes: names of these nodes
SELECT n.id, n.uuid, n.hostname FROM json_each(:node_ids) AS w JOIN node AS n ON n.id = w.value;

-- timeline_bars: attempts of a job that began between two of them, and these
SELECT a.id, a.node_id, a.slot, a.state, a.started_at, a.ended_at, a.cause, a.counted + a.node_fault,
    a.number, t.sequence, t.id & 4294967295, t.uuid, t.state = 2 AND t.attempt_id = a.id, CASE
        WHEN EXISTS (SELECT 1 FROM seat AS s WHERE s.attempt_id = a.id)
        THEN (SELECT json_group_array(json_array(s.node_id, s.slot)) FROM seat AS s WHERE s.attempt_id = a.id)
    END
FROM attempt AS a JOIN task AS t ON t.id = a.task_id
WHERE a.task_id >> 32 = :job_id AND a.id BETWEEN :first_id AND :last_id
UNION ALL
SELECT a.id, a.node_id, a.slot, a.state, a.started_at, a.ended_at, a.cause, a.counted + a.node_fault,
    a.number, t.sequence, t.id & 4294967295, t.uuid, t.state = 2 AND t.attempt_id = a.id, CASE
        WHEN EXISTS (SELECT 1 FROM seat AS s WHERE s.attempt_id = a.id)
        THEN (SELECT json_group_array(json_array(s.node_id, s.slot)) FROM seat AS s WHERE s.attempt_id = a.id)
    END
FROM json_each(:attempt_ids) AS w JOIN attempt AS a ON a.id = w.value
JOIN task AS t ON t.id = a.task_id;
