-- gathering: the gang that gathers its nodes, as long as it may start, and whether it avoids a node (R25)
SELECT t.id, t.attempts, l.job_id, l.sequence, l.shape_id, s.needs,
    CASE WHEN q.task_id IS NULL THEN t.batch_id END,
    q.avoid IS NOT NULL AND q.avoid_until > :now
    AND EXISTS (SELECT 1 FROM json_each(q.avoid) WHERE value = :node_id)
FROM gathering AS g
JOIN task AS t ON t.id = g.task_id AND t.state = 0
JOIN batch AS b ON b.id = t.batch_id AND b.state = 1
LEFT JOIN requeue AS q ON q.task_id = t.id
JOIN lane AS l ON l.job_id = t.id >> 32 AND l.sequence = t.sequence
    AND l.shape_id = coalesce(q.shape_id, b.shape_id) AND l.live = 1 AND l.ready > 0
JOIN shape AS s ON s.id = l.shape_id
WHERE q.task_id IS NULL OR q.due = 1;

-- gathering_task: the task that gathers its nodes, though it may not be able to start any more
SELECT task_id FROM gathering;

-- gathering_begin: a gang gathers its nodes; none must do so before
INSERT INTO gathering (id, task_id, since) VALUES (1, :task_id, :now);

-- gathering_end: no gang gathers its nodes
DELETE FROM gathering;

-- avoided_by_task: nodes that a task avoids
SELECT w.value FROM requeue AS q JOIN json_each(q.avoid) AS w
WHERE q.task_id = :task_id AND q.avoid_until > :now;

-- kept_add: a node keeps a slot with room for the gang
INSERT INTO kept (node_id) VALUES (:node_id) ON CONFLICT DO NOTHING;

-- kept_remove: a node has no room for the gang any more
DELETE FROM kept WHERE node_id = :node_id;

-- kept_clear: nothing is kept for a gang
DELETE FROM kept;

-- kept_nodes: nodes that keep a slot for the gang and take new work
SELECT n.id, n.slots, n.memory_kib, n.cores, n.scratch_mb
FROM kept AS k
JOIN node AS n ON n.id = k.node_id
JOIN agent AS a ON a.id = n.agent_id AND a.live = 1
WHERE n.draining = 0 AND n.held_seconds = 0 AND n.kept_job_id IS NULL
AND (n.held_until IS NULL OR n.held_until <= :now)
ORDER BY n.id;

-- jobs_of_seatless: whose gangs have lost a node and are not over
SELECT DISTINCT j.uuid FROM seat AS e
JOIN attempt AS a ON a.id = e.attempt_id AND a.state < 3
JOIN job AS j ON j.id = a.job_id
WHERE e.node_id = :node_id AND e.state = 2;

-- kept_hosts: hostnames of the nodes that keep a slot for the gang
SELECT n.hostname FROM kept AS k JOIN node AS n ON n.id = k.node_id ORDER BY n.id;

-- seat_add: a gang takes a slot of a further node
INSERT INTO seat (attempt_id, node_id, slot) VALUES (:attempt_id, :node_id, :slot);

-- seats_give_back: the slots that a gang has on further nodes are free
UPDATE seat SET state = 1 WHERE attempt_id = :attempt_id AND state = 0;

-- seats_lost: how many of a gang's further nodes were lost
SELECT count(*) FROM seat WHERE attempt_id = :attempt_id AND state = 2;

-- seats_lose: the slots that gangs have on a node are gone with it
UPDATE seat SET state = 2 WHERE node_id = :node_id AND state = 0;

-- seats_sweep: further nodes of gangs whose tasks are swept
DELETE FROM seat WHERE attempt_id IN (
    SELECT a.id FROM json_each(:task_ids) AS w JOIN attempt AS a ON a.task_id = w.value
);

-- attempts_stop_seatless: gangs that have lost a node are to be stopped
UPDATE attempt SET stop = :reason
WHERE id IN (SELECT attempt_id FROM seat WHERE node_id = :node_id AND state = 2)
AND state < 2 AND stop IS NULL;

-- seat_hosts: hostnames of a gang's further nodes
SELECT n.hostname FROM seat AS s JOIN node AS n ON n.id = s.node_id
WHERE s.attempt_id = :attempt_id ORDER BY n.id;
