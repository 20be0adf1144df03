-- What must not exist, whatever happened; each statement finds one kind of it.

-- level_counters: counters of a sequence that differ from its rows
WITH counted AS (
    SELECT t.id >> 32 AS job_id, t.sequence AS sequence,
        count(*) FILTER (WHERE t.state = 0) AS todo, count(*) FILTER (WHERE t.state = 1) AS running,
        count(*) FILTER (WHERE t.state = 2) AS done, count(*) FILTER (WHERE t.state = 3) AS failed
    FROM task AS t JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
    GROUP BY t.id >> 32, t.sequence
), kept AS (
    SELECT job_id, sequence, todo, running, done, failed FROM level
    WHERE todo + running + done + failed > 0
)
SELECT 'counted', * FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept) AS c
UNION ALL SELECT 'kept', * FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted) AS k;

-- tally_of_levels: counters of a job that differ from the sum of its sequences
SELECT y.job_id, y.todo, y.running, y.done, y.failed FROM tally AS y
LEFT JOIN level AS l ON l.job_id = y.job_id GROUP BY y.job_id
HAVING (y.todo, y.running, y.done, y.failed) <> (coalesce(sum(l.todo), 0),
    coalesce(sum(l.running), 0), coalesce(sum(l.done), 0), coalesce(sum(l.failed), 0));

-- live_attempts: attempts of a job that may have a process, counted otherwise
SELECT job_id, live FROM tally AS y WHERE live <>
    (SELECT count(*) FROM attempt AS a WHERE a.job_id = y.job_id AND a.state < 3);

-- slots_of_job: slots that a job has, counted otherwise
SELECT job_id, slots FROM tally AS y WHERE slots <>
    (SELECT count(*) FROM occupancy AS o WHERE o.job_id = y.job_id);

-- slots_of_owner: slots that a user's jobs have, counted otherwise
WITH counted AS (
    SELECT j.owner_uuid, count(*) AS slots FROM occupancy AS o JOIN job AS j ON j.id = o.job_id
    GROUP BY j.owner_uuid
), kept AS (SELECT owner_uuid, slots FROM usage WHERE slots <> 0)
SELECT 'counted', * FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept) AS c
UNION ALL SELECT 'kept', * FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted) AS k;

-- turn_of_lane: a lane that does not know whose turn it is (R18)
SELECT l.job_id, l.sequence, l.shape_id, l.priority, l.owner_uuid, l.slots
FROM lane AS l JOIN job AS j ON j.id = l.job_id JOIN tally AS y ON y.job_id = l.job_id
WHERE l.live = 1 AND (l.priority, l.owner_uuid, l.slots) <> (j.priority, j.owner_uuid, y.slots);

-- seats_of_gang: a live gang that has not as many nodes as it needs (R25)
SELECT a.id, count(e.node_id) FROM attempt AS a JOIN shape AS s ON s.id = a.shape_id
LEFT JOIN seat AS e ON e.attempt_id = a.id AND e.node_id <> a.node_id
WHERE a.state < 3
GROUP BY a.id, s.needs
HAVING count(e.node_id) + 1 <> coalesce(CAST(json_extract(s.needs, '$.nodes') AS INTEGER), 1);

-- seat_without_a_gang: a slot that an attempt that is over still has
SELECT e.attempt_id, e.node_id FROM seat AS e LEFT JOIN attempt AS a ON a.id = e.attempt_id
WHERE e.state = 0 AND (a.id IS NULL OR a.state = 3);

-- next_qsequence: a number of arrival that could be given twice
SELECT job_id, next_qsequence FROM tally WHERE next_qsequence <=
    (SELECT max(id) & 4294967295 FROM task
     WHERE id BETWEEN job_id << 32 AND (job_id << 32) + 4294967295);

-- size_of_batch: tasks of a batch, counted otherwise
SELECT id, size FROM batch AS b WHERE state <> 2
AND size <> (SELECT count(*) FROM task AS t WHERE t.batch_id = b.id);

-- ready_and_head_of_batch: tasks of a batch that were never claimed, or the first of them, kept otherwise
WITH fresh AS (
    SELECT t.batch_id AS batch_id, count(*) AS ready, min(t.id) AS head FROM task AS t
    WHERE t.state = 0 AND t.attempts = 0
    AND NOT EXISTS (SELECT 1 FROM requeue AS q WHERE q.task_id = t.id)
    GROUP BY t.batch_id
)
SELECT b.id, b.ready, b.head, f.ready, f.head
FROM batch AS b JOIN job AS j ON j.id = b.job_id AND j.managed = 1
LEFT JOIN fresh AS f ON f.batch_id = b.id
WHERE b.state <> 2
AND (b.ready <> coalesce(f.ready, 0) OR (b.ready > 0 AND b.head <> f.head));

-- ready_of_lane: tasks of a lane that could start, counted otherwise
WITH counted AS (
    SELECT job_id, sequence, shape_id, sum(ready) AS ready FROM (
        SELECT job_id, sequence, shape_id, ready FROM batch WHERE state = 1 AND ready > 0
        UNION ALL
        SELECT q.job_id, q.sequence, q.shape_id, 1 FROM requeue AS q
        JOIN tally AS y ON y.job_id = q.job_id WHERE q.due = 1
    ) AS found GROUP BY job_id, sequence, shape_id
), kept AS (SELECT job_id, sequence, shape_id, ready FROM lane WHERE ready > 0)
SELECT 'counted', * FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept) AS c
UNION ALL SELECT 'kept', * FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted) AS k;

-- frontier_of_job: a frontier that is not the lowest open sequence
SELECT y.job_id, j.state, y.halt, y.frontier
FROM tally AS y JOIN job AS j ON j.id = y.job_id
WHERE y.frontier IS NOT CASE WHEN j.state = 'Running' AND j.managed = 1 AND y.halt IS NULL THEN
    (SELECT min(sequence) FROM level AS l
     WHERE l.job_id = y.job_id AND l.todo + l.running + l.failed > 0) END;

-- live_lanes: lanes that are live beside the frontier, or not live at it
SELECT l.job_id, l.sequence, l.shape_id, l.live, y.frontier
FROM lane AS l LEFT JOIN tally AS y ON y.job_id = l.job_id
WHERE l.live <> CASE WHEN y.frontier = l.sequence THEN 1 ELSE 0 END;

-- attempt_of_a_running_task: a running task without exactly one open attempt, or another with one
SELECT t.id, t.state, count(a.id) FROM task AS t
JOIN job AS j ON j.id = t.id >> 32 AND j.managed = 1
LEFT JOIN attempt AS a ON a.task_id = t.id AND a.state < 2
GROUP BY t.id HAVING count(a.id) <> CASE t.state WHEN 1 THEN 1 ELSE 0 END
OR (t.state = 1 AND min(a.id) IS NOT t.attempt_id);

-- waiting_task_that_cannot_start: a started task that waits and is not requeued
SELECT t.id, t.attempts FROM task AS t JOIN batch AS b ON b.id = t.batch_id AND b.state = 1
JOIN job AS j ON j.id = b.job_id AND j.managed = 1
WHERE t.state = 0 AND t.attempts > 0
AND NOT EXISTS (SELECT 1 FROM requeue AS q WHERE q.task_id = t.id);

-- requeued_task_that_does_not_wait: a requeued task that is not waiting
SELECT t.id, t.state FROM requeue AS q JOIN task AS t ON t.id = q.task_id WHERE t.state <> 0;

-- child_of_a_dead_attempt: a visible unpublished batch whose creator is over (R4)
SELECT b.id, b.creator_attempt_id FROM batch AS b
LEFT JOIN attempt AS a ON a.id = b.creator_attempt_id
WHERE b.state = 0 AND (a.id IS NULL OR a.state >= 2);

-- started_task_of_an_unpublished_batch: a task that started before its creator was complete (R3)
SELECT t.id FROM task AS t JOIN batch AS b ON b.id = t.batch_id AND b.state <> 1
JOIN job AS j ON j.id = b.job_id AND j.managed = 1 WHERE t.attempts > 0 OR t.state <> 0;

-- slot_given_twice: a slot in which two attempts run; others may wait behind them
SELECT o.node_id, o.slot, count(*) FROM occupancy AS o JOIN attempt AS a ON a.id = o.attempt_id
WHERE a.state = 1 OR o.is_first = 0
GROUP BY o.node_id, o.slot HAVING count(*) > 1;

-- memory_given_twice: a node with more reserved than it has (R28)
SELECT n.id, n.memory_kib, sum(a.memory_kib) FROM occupancy AS a
JOIN node AS n ON n.id = a.node_id
GROUP BY n.id HAVING sum(a.memory_kib) > n.memory_kib;

-- failures_counted: a failed_count that differs from the attempts that failed (R13, R16)
SELECT t.id, t.failed_count, sum(a.counted + a.node_fault) FROM task AS t
JOIN job AS j ON j.id = t.id >> 32 AND j.managed = 1
JOIN attempt AS a ON a.task_id = t.id GROUP BY t.id
HAVING t.failed_count <> sum(a.counted + a.node_fault);

-- process_of_an_ended_job: a live attempt of a job that ended by itself or waits (R17)
SELECT a.id, j.state FROM attempt AS a JOIN job AS j ON j.id = a.job_id
WHERE a.state < 3 AND j.state IN ('Complete', 'Failed', 'Queued');

-- open_attempt_of_an_ended_job: an attempt that could still write after its job was over (R21)
SELECT a.id, j.state FROM attempt AS a JOIN job AS j ON j.id = a.job_id
WHERE a.state < 2 AND j.state <> 'Running';

-- complete_job_with_a_task_that_is_not: a complete job with a task that is not (R20)
SELECT j.id, y.todo, y.running, y.failed FROM job AS j JOIN tally AS y ON y.job_id = j.id
WHERE j.state = 'Complete' AND j.managed = 1 AND y.todo + y.running + y.failed > 0;

-- foreign_job_with_work_for_us: something of a foreign job that a claim or a retry could find (R7b)
SELECT j.id, b.id FROM job AS j JOIN batch AS b ON b.job_id = j.id
WHERE j.managed = 0 AND (b.ready > 0 OR b.state = 0)
UNION ALL
SELECT j.id, l.shape_id FROM job AS j JOIN lane AS l ON l.job_id = j.id WHERE j.managed = 0
UNION ALL
SELECT j.id, q.task_id FROM job AS j JOIN requeue AS q ON q.job_id = j.id WHERE j.managed = 0
UNION ALL
SELECT j.id, a.id FROM job AS j JOIN attempt AS a ON a.job_id = j.id
WHERE j.managed = 0 AND a.state < 3
UNION ALL
SELECT j.id, y.frontier FROM job AS j JOIN tally AS y ON y.job_id = j.id
WHERE j.managed = 0 AND y.frontier IS NOT NULL;

-- state_of_a_foreign_task: one that its own values do not amount to (R7b)
SELECT t.id, t.state FROM task AS t JOIN job AS j ON j.id = t.id >> 32 AND j.managed = 0
JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
WHERE t.attempt_id IS NULL AND t.state <> CASE
    WHEN t.success = 1 AND t.progress = 1.0 THEN 2
    WHEN t.success = 0 THEN 3
    WHEN t.started_at IS NOT NULL AND t.finished_at IS NULL THEN 1
    ELSE 0
END;

-- family_counters: failures of one kind, or tasks that failed by them for good, counted otherwise
WITH counted AS (
    SELECT a.family_id AS id, count(*) AS attempts,
        count(*) FILTER (WHERE t.state = 3 AND t.failed_attempt_id = a.id) AS tasks
    FROM attempt AS a JOIN task AS t ON t.id = a.task_id
    WHERE a.family_id IS NOT NULL GROUP BY a.family_id
)
SELECT f.id, f.attempts, c.attempts, f.tasks, c.tasks FROM family AS f
JOIN job AS j ON j.id = f.job_id AND j.managed = 1
LEFT JOIN counted AS c ON c.id = f.id
WHERE (f.attempts, f.tasks) <> (coalesce(c.attempts, 0), coalesce(c.tasks, 0));

-- success_in_a_family: an attempt that is among failures and did not fail
SELECT a.id, a.family_id FROM attempt AS a
WHERE a.family_id IS NOT NULL AND a.counted + a.node_fault = 0;

-- lineage_of_batches: tasks by their creators' sequence that differ from their batches
WITH counted AS (
    SELECT b.job_id AS job_id, coalesce(b.creator_sequence, -1) AS creator_sequence,
        b.sequence AS sequence, sum(b.size) AS tasks, count(DISTINCT b.creator_task_id) AS creators
    FROM batch AS b JOIN job AS j ON j.id = b.job_id AND j.managed = 1
    WHERE b.state = 1
    GROUP BY b.job_id, coalesce(b.creator_sequence, -1), b.sequence
), kept AS (
    SELECT l.job_id, l.creator_sequence, l.sequence, l.tasks, l.creators
    FROM lineage AS l JOIN job AS j ON j.id = l.job_id AND j.managed = 1
)
SELECT 'counted', * FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept) AS c
UNION ALL SELECT 'kept', * FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted) AS k;
