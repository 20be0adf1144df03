-- shapes_live: distinct shapes of which some running job has a task ready at its frontier
WITH RECURSIVE found (id) AS (
    SELECT min(shape_id) FROM lane WHERE live = 1 AND ready > 0
    UNION ALL
    SELECT (SELECT min(shape_id) FROM lane WHERE live = 1 AND ready > 0 AND shape_id > found.id)
    FROM found WHERE found.id IS NOT NULL
)
SELECT s.id, s.needs FROM found JOIN shape AS s ON s.id = found.id;

-- lanes_of_shape: live lanes of one shape, oldest job first
SELECT job_id, sequence, shape_id FROM lane
WHERE live = 1 AND ready > 0 AND shape_id = :shape_id AND job_id > :after_job
ORDER BY job_id LIMIT :limit;

-- batch_heads: published batches of a lane that have tasks never claimed, by their first one
SELECT id, head FROM batch
WHERE job_id = :job_id AND sequence = :sequence AND shape_id = :shape_id AND state = 1 AND ready > 0
ORDER BY head LIMIT :limit;

-- tasks_fresh: the next tasks of a batch that were never claimed
SELECT id, uuid, attempts, parameters, command, NULL FROM task INDEXED BY task_batch
WHERE batch_id = :batch_id AND id >= :head
ORDER BY id LIMIT :limit;

-- tasks_due: tasks of a lane whose retry is due, in order of qsequence, past those that avoid the node
SELECT t.id, t.uuid, t.attempts, t.parameters, t.command, t.spent
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

-- occupants_of_node: live attempts of a node with their needs
SELECT a.job_id, s.needs, a.memory_kib FROM attempt AS a JOIN shape AS s ON s.id = a.shape_id
WHERE a.node_id = :node_id AND a.state < 3;

-- other_nodes_of_job: nodes but one that have a live attempt of the job (R26)
SELECT count(DISTINCT node_id) FROM attempt
WHERE job_id = :job_id AND state < 3 AND node_id <> :node_id;

-- job_brief: what an agent needs to know of a job
SELECT uuid, script, script_version, command, script_parameters FROM job WHERE id = :job_id;

-- shape_id: the id of a shape
SELECT id FROM shape WHERE needs = :needs;

-- shape_add: a new shape
INSERT INTO shape (needs) VALUES (:needs);

-- shape_needs: what a shape means
SELECT needs FROM shape WHERE id = :shape_id;
