-- lineage_change: tasks were published that tasks of a sequence created, or were deleted
INSERT INTO lineage (job_id, creator_sequence, sequence, tasks, creators)
VALUES (:job_id, :creator_sequence, :sequence, :tasks, :creators)
ON CONFLICT (job_id, creator_sequence, sequence) DO UPDATE SET
    tasks = lineage.tasks + excluded.tasks, creators = lineage.creators + excluded.creators;

-- lineage_shrink: a published task is deleted
UPDATE lineage SET tasks = tasks - 1
WHERE job_id = :job_id AND sequence = :sequence
AND creator_sequence = (SELECT coalesce(b.creator_sequence, -1) FROM batch AS b WHERE b.id = :batch_id);

-- lineage_delete: forget what tasks of a job created
DELETE FROM lineage WHERE job_id = :job_id;

-- lineage_of_job: what tasks of each sequence created, published tasks alone
SELECT creator_sequence, sequence, tasks, creators FROM lineage
WHERE job_id = :job_id AND tasks > 0
ORDER BY creator_sequence, sequence LIMIT :limit;

-- lineage_of_running: the same of tasks whose creators run still
SELECT coalesce(b.creator_sequence, -1), b.sequence, sum(b.size), count(DISTINCT b.creator_task_id)
FROM attempt AS a JOIN batch AS b ON b.creator_attempt_id = a.id AND b.state = 0
WHERE a.job_id = :job_id AND a.state < 3 AND b.size > 0
GROUP BY coalesce(b.creator_sequence, -1), b.sequence;

-- lineage_of_foreign: the same of a job that a manager of its own runs, as far as so many batches tell (R7b)
SELECT coalesce(c.sequence, -1), b.sequence, sum(b.size), count(DISTINCT b.creator_task_id)
FROM (
    SELECT sequence, size, creator_task_id FROM batch
    WHERE job_id = :job_id AND state = 1 AND size > 0
    ORDER BY shape_id, id LIMIT :batches
) AS b LEFT JOIN task AS c ON c.id = b.creator_task_id
GROUP BY coalesce(c.sequence, -1), b.sequence
ORDER BY coalesce(c.sequence, -1), b.sequence LIMIT :limit;

-- children_by_sequence: how many tasks a task created in each sequence, as far as so many batches tell
SELECT b.sequence, sum(b.size)
FROM (
    SELECT sequence, size FROM batch
    WHERE creator_task_id = :task_id AND state <> 2 AND size > 0
    ORDER BY id LIMIT :batches
) AS b
GROUP BY b.sequence ORDER BY b.sequence LIMIT :limit;

-- children_by_state: how many of them are where, in these sequences
SELECT b.sequence, t.state, count(*)
FROM batch AS b JOIN task AS t ON t.batch_id = b.id
WHERE b.creator_task_id = :task_id AND b.state <> 2
AND b.sequence IN (SELECT value FROM json_each(:sequences))
GROUP BY b.sequence, t.state;

-- child_heads: the first task after a place in each batch of a task's children in a sequence
SELECT b.id, (SELECT min(t.id) FROM task AS t INDEXED BY task_batch WHERE t.batch_id = b.id AND t.id > :after)
FROM batch AS b
WHERE b.creator_task_id = :task_id AND b.sequence = :sequence AND b.state <> 2 AND b.size > 0
ORDER BY b.id LIMIT :batches;

-- children_of_batch: tasks of a batch after a place, each with how many tasks it created
SELECT t.id, t.uuid, t.sequence, t.id & 4294967295, t.state, t.attempts, t.failed_count,
    (SELECT coalesce(sum(c.size), 0) FROM batch AS c WHERE c.creator_task_id = t.id AND c.state <> 2)
FROM task AS t INDEXED BY task_batch
WHERE t.batch_id = :batch_id AND t.id > :after
ORDER BY t.id LIMIT :limit;
