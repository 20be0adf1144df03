-- tally_of_job: what settling a job needs
SELECT j.state, j.managed, y.todo, y.running, y.done, y.failed, y.live, y.halt, y.frontier
FROM tally AS y JOIN job AS j ON j.id = y.job_id
WHERE y.job_id = :job_id;

-- tally_add: counters of a new job
INSERT INTO tally (job_id) VALUES (:job_id);

-- tally_change: move counters by differences; turns and the slots of the owner follow (tally_slots); as tally_of_job
UPDATE tally SET
    todo = todo + :todo, running = running + :running, done = done + :done,
    failed = failed + :failed, live = live + :live, slots = slots + :slots,
    log_bytes = log_bytes + :log_bytes
WHERE job_id = :job_id
RETURNING (SELECT j.state FROM job AS j WHERE j.id = tally.job_id),
    (SELECT j.managed FROM job AS j WHERE j.id = tally.job_id), todo, running, done, failed, live, halt,
    frontier;

-- lanes_outrank: the turn of a job moves with its priority
UPDATE lane SET priority = :priority WHERE job_id = :job_id AND priority <> :priority;

-- tally_take_qsequences: reserve the next numbers of arrival (R6)
UPDATE tally SET next_qsequence = next_qsequence + :count
WHERE job_id = :job_id
RETURNING next_qsequence;

-- tally_pass_qsequence: a number of arrival that was given by a foreign job's manager is not ours to give
UPDATE tally SET next_qsequence = :beyond WHERE job_id = :job_id AND next_qsequence < :beyond;

-- tally_frontier: set which sequence may start
UPDATE tally SET frontier = :frontier WHERE job_id = :job_id;

-- tally_halt: stop new starts after a permanent failure (R19)
UPDATE tally SET halt = :halt WHERE job_id = :job_id AND halt IS NULL;

-- tally_shape: count one more distinct shape of the job, within its limit
UPDATE tally SET shapes = shapes + 1 WHERE job_id = :job_id AND shapes < :shapes_max;

-- tally_reset: counters recomputed from levels, as a retry begins (R23)
UPDATE tally SET
    todo = (SELECT coalesce(sum(todo), 0) FROM level WHERE job_id = :job_id),
    running = 0,
    done = (SELECT coalesce(sum(done), 0) FROM level WHERE job_id = :job_id),
    failed = (SELECT coalesce(sum(failed), 0) FROM level WHERE job_id = :job_id),
    halt = NULL, frontier = NULL
WHERE job_id = :job_id;

-- tally_delete: forget the counters of a job
DELETE FROM tally WHERE job_id = :job_id;

-- level_change: move a sequence's counters by differences; how many of its tasks are not complete
UPDATE level SET
    todo = todo + :todo, running = running + :running, done = done + :done, failed = failed + :failed
WHERE job_id = :job_id AND sequence = :sequence
RETURNING todo + running + failed;

-- level_add: first tasks of a sequence
INSERT INTO level (job_id, sequence, todo, running, done, failed)
VALUES (:job_id, :sequence, :todo, :running, :done, :failed);

-- level_frontier: lowest sequence that is not all complete, and how many of its tasks wait (R5)
SELECT sequence, todo FROM level
WHERE job_id = :job_id AND todo + running + failed > 0
ORDER BY sequence LIMIT 1;

-- levels_of_job: counters of each sequence, for progress
SELECT sequence, todo, running, done, failed FROM level WHERE job_id = :job_id ORDER BY sequence;

-- level_highest: highest sequence that has tasks, for output "last" (R20)
SELECT sequence FROM level
WHERE job_id = :job_id AND todo + running + done + failed > 0
ORDER BY sequence DESC LIMIT 1;

-- level_delete: forget the levels of a job
DELETE FROM level WHERE job_id = :job_id;

-- level_recount: counters recomputed from rows, as a retry begins (R23)
INSERT INTO level (job_id, sequence, todo, running, done, failed)
SELECT :job_id, t.sequence,
    sum(t.state = 0), sum(t.state = 1), sum(t.state = 2), sum(t.state = 3)
FROM task AS t JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
WHERE t.id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295
GROUP BY t.sequence;

-- lane_change: move how many tasks of a lane are ready
UPDATE lane SET ready = ready + :ready
WHERE job_id = :job_id AND sequence = :sequence AND shape_id = :shape_id;

-- lane_add: first ready tasks of a sequence and shape
INSERT INTO lane (job_id, sequence, shape_id, ready, priority, owner_uuid)
SELECT :job_id, :sequence, :shape_id, :ready, priority, owner_uuid FROM job WHERE id = :job_id;

-- lanes_stop: nothing of this sequence may start any more
UPDATE lane SET live = 0 WHERE job_id = :job_id AND sequence = :sequence AND live = 1;

-- lanes_start: this sequence is the frontier
UPDATE lane SET live = 1, slots = (SELECT y.slots FROM tally AS y WHERE y.job_id = :job_id)
WHERE job_id = :job_id AND sequence = :sequence AND live = 0;

-- lane_delete: forget the lanes of a job
DELETE FROM lane WHERE job_id = :job_id;

-- lane_recount: ready tasks recomputed from batches and requeued tasks (R23)
INSERT INTO lane (job_id, sequence, shape_id, ready, priority, owner_uuid)
SELECT :job_id, f.sequence, f.shape_id, sum(f.ready), j.priority, j.owner_uuid FROM (
    SELECT sequence, shape_id, ready FROM batch WHERE job_id = :job_id AND state = 1 AND ready > 0
    UNION ALL
    SELECT sequence, shape_id, 1 FROM requeue
    WHERE due = 1 AND task_id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295
) AS f JOIN job AS j ON j.id = :job_id
GROUP BY f.sequence, f.shape_id;
