-- lanes_live: lanes with tasks that may start, with their owners' slots, whether retries are due, and needs
SELECT l.job_id, l.sequence, l.shape_id, l.priority, l.owner_uuid, l.slots, coalesce(u.slots, 0), EXISTS (
    SELECT 1 FROM requeue AS q
    WHERE q.job_id = l.job_id AND q.sequence = l.sequence AND q.shape_id = l.shape_id AND q.due = 1
), s.needs
FROM lane AS l INDEXED BY lane_turn
JOIN shape AS s ON s.id = l.shape_id
LEFT JOIN usage AS u ON u.owner_uuid = l.owner_uuid
WHERE l.live = 1 AND l.ready > 0 LIMIT :limit;

-- lanes_live_of_job: the same of one job
SELECT l.job_id, l.sequence, l.shape_id, l.priority, l.owner_uuid, l.slots, coalesce(u.slots, 0), EXISTS (
    SELECT 1 FROM requeue AS q
    WHERE q.job_id = l.job_id AND q.sequence = l.sequence AND q.shape_id = l.shape_id AND q.due = 1
), s.needs
FROM tally AS y
JOIN lane AS l ON l.job_id = y.job_id AND l.sequence = y.frontier
JOIN shape AS s ON s.id = l.shape_id
LEFT JOIN usage AS u ON u.owner_uuid = l.owner_uuid
WHERE y.job_id = :job_id AND l.live = 1 AND l.ready > 0;

-- shapes_live: distinct shapes of which some running job has a task ready at its frontier
WITH RECURSIVE found (id) AS (
    SELECT min(shape_id) FROM lane WHERE live = 1 AND ready > 0
    UNION ALL
    SELECT (SELECT min(shape_id) FROM lane WHERE live = 1 AND ready > 0 AND shape_id > found.id)
    FROM found WHERE found.id IS NOT NULL
)
SELECT s.id, s.needs FROM found JOIN shape AS s ON s.id = found.id;

-- turn_owners: whose jobs have tasks of these shapes ready, at the highest priority below another; the slots they have, each one's first job by shape
WITH RECURSIVE top AS MATERIALIZED (
    SELECT max((
        SELECT max(priority) FROM lane
        WHERE live = 1 AND ready > 0 AND shape_id = w.value AND priority < :below
    )) AS priority
    FROM json_each(:shape_ids) AS w
), found (shape_id, priority, owner_uuid) AS (
    SELECT w.value, top.priority, (
        SELECT min(owner_uuid) FROM lane
        WHERE live = 1 AND ready > 0 AND shape_id = w.value AND priority = top.priority
    )
    FROM json_each(:shape_ids) AS w, top
    UNION ALL
    SELECT shape_id, priority, (
        SELECT min(l.owner_uuid) FROM lane AS l
        WHERE l.live = 1 AND l.ready > 0 AND l.shape_id = found.shape_id
        AND l.priority = found.priority AND l.owner_uuid > found.owner_uuid
    )
    FROM found WHERE found.owner_uuid IS NOT NULL
), first AS (
    SELECT f.shape_id, f.priority, f.owner_uuid, (
        SELECT min(l.slots) FROM lane AS l
        WHERE l.live = 1 AND l.ready > 0 AND l.shape_id = f.shape_id AND l.priority = f.priority
        AND l.owner_uuid = f.owner_uuid
    ) AS slots
    FROM found AS f WHERE f.owner_uuid IS NOT NULL
)
SELECT f.priority, f.owner_uuid, coalesce(u.slots, 0), f.slots, (
    SELECT min(l.job_id) FROM lane AS l
    WHERE l.live = 1 AND l.ready > 0 AND l.shape_id = f.shape_id AND l.priority = f.priority
    AND l.owner_uuid = f.owner_uuid AND l.slots = f.slots
)
FROM first AS f LEFT JOIN usage AS u ON u.owner_uuid = f.owner_uuid;

-- turn_lanes: live lanes of an owner's jobs at a priority, the job with the fewest slots first, then by age
SELECT job_id, sequence, shape_id, slots FROM lane
WHERE live = 1 AND ready > 0 AND shape_id = :shape_id AND priority = :priority
AND owner_uuid = :owner_uuid AND (slots, job_id) > (:after_slots, :after_job)
ORDER BY slots, job_id LIMIT :limit;

-- batch_heads: published batches of a lane that have tasks never claimed, by their first one
SELECT id, head FROM batch
WHERE job_id = :job_id AND sequence = :sequence AND shape_id = :shape_id AND state = 1 AND ready > 0
ORDER BY head LIMIT :limit;

-- tasks_fresh: the next tasks of a batch that were never claimed
SELECT id, attempts FROM task INDEXED BY task_batch
WHERE batch_id = :batch_id AND id >= :head
ORDER BY id LIMIT :limit;

-- tasks_due: tasks of a lane whose retry is due, in order of qsequence, past those that avoid the node
SELECT t.id, t.attempts
FROM requeue AS q JOIN task AS t ON t.id = q.task_id
WHERE q.job_id = :job_id AND q.sequence = :sequence AND q.shape_id = :shape_id AND q.due = 1
AND NOT (
    q.avoid IS NOT NULL AND q.avoid_until > :now
    AND EXISTS (SELECT 1 FROM json_each(q.avoid) WHERE value = :node_id)
)
ORDER BY q.task_id LIMIT :limit;

-- task_start: a task gets an attempt; it must be waiting
UPDATE task SET
    state = 1, attempts = :number, attempt_id = :attempt_id, started_at = coalesce(started_at, :now),
    modified_at = :now
WHERE id = :task_id AND state = 0;

-- requeue_take: a task that waited for another attempt has it
DELETE FROM requeue WHERE task_id = :task_id;

-- batch_advance: tasks of a batch up to the head were claimed
UPDATE batch SET
    ready = ready - :count,
    head = coalesce(
        (SELECT min(id) FROM task INDEXED BY task_batch WHERE batch_id = :batch_id AND id >= :head),
        :head
    )
WHERE id = :batch_id;

-- attempt_add: an attempt begins with its assignment
INSERT INTO attempt (
    id, task_id, job_id, number, node_id, agent_id, slot, shape_id, memory_kib, state, token_hash,
    assigned_at, canary
)
VALUES (
    :id, :task_id, :job_id, :number, :node_id, :agent_id, :slot, :shape_id, :memory_kib, 0,
    :token_hash, :now, :canary
);

-- attempt_last_id: highest id of an attempt ever given
SELECT seq FROM sqlite_sequence WHERE name = 'attempt';

-- occupants_of_node: what takes slots of a node: attempts that may have a process there, and seats
SELECT a.id, a.job_id, a.slot, a.state, a.stop, a.missing_since, a.memory_kib, s.needs, 1
FROM attempt AS a JOIN shape AS s ON s.id = a.shape_id
WHERE a.node_id = :node_id AND a.state < 3
UNION ALL
SELECT a.id, a.job_id, o.slot, a.state, NULL, NULL, a.memory_kib, s.needs, 0
FROM seat AS o JOIN attempt AS a ON a.id = o.attempt_id JOIN shape AS s ON s.id = a.shape_id
WHERE o.node_id = :node_id AND o.state = 0
ORDER BY 1;

-- nodes_of_job: nodes on which the job has a slot (R26)
SELECT a.node_id FROM attempt AS a WHERE a.job_id = :job_id AND a.state < 3
UNION
SELECT s.node_id FROM attempt AS a JOIN seat AS s ON s.attempt_id = a.id AND s.state = 0
WHERE a.job_id = :job_id AND a.state < 3;

-- job_brief: what an agent needs to know of a job
SELECT uuid, script, script_version, command, script_parameters FROM job WHERE id = :job_id;

-- shape_id: the id of a shape
SELECT id FROM shape WHERE needs = :needs;

-- shape_add: a new shape
INSERT INTO shape (needs) VALUES (:needs);

-- shape_needs: what a shape means
SELECT needs FROM shape WHERE id = :shape_id;
