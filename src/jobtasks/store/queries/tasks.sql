-- task_by_uuid: a task as readers see it
SELECT * FROM visible_task WHERE uuid = :uuid;

-- task_by_id: a task as readers see it
SELECT * FROM visible_task WHERE id = :task_id;

-- task_add: a new task: id, uuid, batch, sequence, parameters, constraints, command, time twice
INSERT INTO task (
    id, uuid, batch_id, sequence, parameters, runtime_constraints, command, created_at, modified_at
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- task_report: an attempt writes its own task; the task must be running under this attempt (R7, R32)
UPDATE task SET progress = :progress, success = :success, output = :output, modified_at = :now
WHERE id = :task_id AND state = 1 AND attempt_id = :attempt_id;

-- task_finish: a task ends as its last attempt left it
UPDATE task SET
    state = :state, progress = :progress, success = :success, finished_at = :now, modified_at = :now
WHERE id = :task_id AND state = 1 AND attempt_id = :attempt_id;

-- task_finish_failed: a task fails for good (R11, R13, R14)
UPDATE task SET
    state = 3, progress = :progress, success = 0, finished_at = :now, modified_at = :now,
    failed_count = failed_count + 1, failed_at = :now, failed_attempt_id = :attempt_id, spent = :spent
WHERE id = :task_id AND state = 1 AND attempt_id = :attempt_id;

-- task_failed_once: a task failed and will be tried again (R13)
UPDATE task SET
    state = 0, progress = NULL, success = NULL, output = NULL, started_at = NULL, modified_at = :now,
    failed_count = failed_count + 1, failed_at = :now, failed_attempt_id = :attempt_id, spent = :spent
WHERE id = :task_id AND state = 1 AND attempt_id = :attempt_id;

-- task_stopped: an ordered stop ended the attempt; the task waits again (R14)
UPDATE task SET
    state = 0, progress = NULL, success = NULL, output = NULL, started_at = NULL, modified_at = :now
WHERE id = :task_id AND state = 1 AND attempt_id = :attempt_id;

-- requeue_add: a task waits for another attempt
INSERT INTO requeue (task_id, job_id, sequence, shape_id, not_before, due, avoid, avoid_until)
VALUES (:task_id, :job_id, :sequence, :shape_id, :not_before, :due, :avoid, :avoid_until);

-- requeue_ripe: tasks whose delay is over
SELECT task_id, job_id, sequence, shape_id FROM requeue
WHERE due = 0 AND not_before <= :now
ORDER BY not_before LIMIT :limit;

-- requeue_ripen: the delay of a task is over
UPDATE requeue SET due = 1 WHERE task_id = :task_id AND due = 0;

-- requeue_next: when the next delay is over
SELECT min(not_before) FROM requeue WHERE due = 0;

-- requeue_sooner: no delay is longer than the longest, after a clock was set back (R15)
UPDATE requeue SET not_before = :latest WHERE due = 0 AND not_before > :latest;

-- requeue_avoid_less: nor does a task wait longer for another node (R12)
UPDATE requeue SET avoid_until = :latest WHERE avoid IS NOT NULL AND avoid_until > :latest;

-- requeue_stop_avoiding: no other node is left to wait for, for any job or for one (R12)
UPDATE requeue SET avoid = NULL, avoid_until = NULL WHERE avoid IS NOT NULL AND avoid_until > :now
AND (CAST(:job_id AS BIGINT) IS NULL OR job_id = :job_id);

-- requeue_clear: nothing of a job waits for another attempt
DELETE FROM requeue WHERE task_id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295;

-- requeue_of_job: tasks of a job that wait for another attempt
SELECT task_id FROM requeue
WHERE task_id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295;

-- requeue_drop: one task does not wait any more; which lane counted it as ready, if its delay is over
DELETE FROM requeue WHERE task_id = :task_id RETURNING due, shape_id;

-- tasks_failed: tasks of a job that failed for good
SELECT t.id FROM task AS t JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
WHERE t.id >> 32 = :job_id AND t.state = 3 AND (t.state = 3 OR t.failed_count > 0);

-- task_for_reset: what a reset of a task needs
SELECT t.id, t.uuid, t.sequence, t.state, t.attempts, t.runtime_constraints, b.id, b.own, b.shape_id,
    b.creator_task_id, b.creator_attempt_id, b.creator_sequence
FROM task AS t JOIN batch AS b ON b.id = t.batch_id AND b.state = 1
WHERE t.id = :task_id;

-- task_reset: a task begins anew; what it failed with stays on record (R23)
UPDATE task SET
    state = 0, progress = NULL, success = NULL, output = NULL, spent = NULL, started_at = NULL,
    finished_at = NULL, runtime_constraints = :runtime_constraints, batch_id = :batch_id,
    modified_at = :now
WHERE id = :task_id AND state IN (0, 3);

-- task_delete: forget a task that does not run
DELETE FROM task WHERE id = :task_id AND state <> 1;

-- batch_latent: what this attempt already created with these constraints in this sequence
SELECT id, shape_id FROM batch
WHERE creator_attempt_id = :attempt_id AND state = 0 AND sequence = :sequence AND own = :own;

-- batch_add: what an attempt creates in one sequence with one shape
INSERT INTO batch (
    job_id, sequence, own, shape_id, creator_task_id, creator_attempt_id, creator_sequence, state, size,
    ready, head
)
VALUES (
    :job_id, :sequence, :own, :shape_id, :creator_task_id, :creator_attempt_id, :creator_sequence,
    :state, :size, :size, :head
);

-- batch_grow: an attempt creates more of the same; an empty batch begins with the first of them
UPDATE batch SET
    size = size + :count, ready = ready + :count, head = CASE size WHEN 0 THEN :head ELSE head END
WHERE id = :batch_id AND state = 0;

-- batch_shrink: one task of a batch is gone; its head may have been this one
UPDATE batch SET
    size = size - 1, ready = ready - :ready,
    head = coalesce(
        (SELECT min(id) FROM task INDEXED BY task_batch WHERE batch_id = :batch_id AND id >= head),
        head
    )
WHERE id = :batch_id;

-- batches_of_attempt: what an attempt created and nobody may run yet
SELECT id, sequence, shape_id, size, ready FROM batch WHERE creator_attempt_id = :attempt_id AND state = 0;

-- batches_publish: the children of a completed attempt may run (R3)
UPDATE batch SET state = 1 WHERE creator_attempt_id = :attempt_id AND state = 0;

-- batches_bury: the children of a failed attempt are gone (R4)
UPDATE batch SET state = 2 WHERE creator_attempt_id = :attempt_id AND state = 0;

-- batches_of_job: batches whose shapes follow the job's constraints
SELECT id, own FROM batch WHERE job_id = :job_id AND state = 1;

-- batch_reshape: the job's constraints changed
UPDATE batch SET shape_id = :shape_id WHERE id = :batch_id;

-- batches_bury_job: every task of a deleted job is gone
UPDATE batch SET state = 2 WHERE job_id = :job_id;

-- batch_has_shape: whether the job already has this shape
SELECT 1 FROM batch WHERE job_id = :job_id AND shape_id = :shape_id LIMIT 1;

-- batch_dead: a batch whose rows are still there, and no more of them come
SELECT id FROM batch
WHERE state = 2 AND (arrival_id IS NULL OR arrival_id NOT IN (SELECT id FROM arrival))
ORDER BY id LIMIT 1;

-- batch_dead_tasks: rows of a dead batch
SELECT id FROM task WHERE batch_id = :batch_id ORDER BY id LIMIT :limit;

-- batch_delete: the last row of a dead batch is swept
DELETE FROM batch WHERE id = :batch_id AND state = 2;

-- tails_sweep: the ends of stderr of tasks that are swept
DELETE FROM tail WHERE attempt_id IN (
    SELECT id FROM attempt WHERE task_id IN (SELECT value FROM json_each(:task_ids))
);

-- attempts_sweep: attempts of tasks that are swept
DELETE FROM attempt WHERE task_id IN (SELECT value FROM json_each(:task_ids));

-- requeue_sweep: waiting tasks that are swept
DELETE FROM requeue WHERE task_id IN (SELECT value FROM json_each(:task_ids));

-- tasks_sweep: rows of tasks that are gone
DELETE FROM task WHERE id IN (SELECT value FROM json_each(:task_ids));

-- batch_hold: a batch of one task, which waits for another attempt
UPDATE batch SET size = 1, ready = 0 WHERE id = :batch_id;

-- batch_resize: tasks that were claimed before leave a batch, or come to it
UPDATE batch SET size = size + :count WHERE id = :batch_id;

-- batch_shape: which shape a batch has
SELECT shape_id FROM batch WHERE id = :batch_id;

-- batches_rest: nothing of a job that a manager of its own runs is for us to start (R7b)
UPDATE batch SET ready = 0 WHERE job_id = :job_id;

-- batch_add_foreign: tasks that a job's own manager creates in one sequence with one creator (R7b)
INSERT INTO batch (job_id, sequence, shape_id, creator_task_id, state, size, ready, head)
VALUES (:job_id, :sequence, :shape_id, :creator_task_id, 1, :size, 0, :head);

-- batch_leave: a task went to another batch, in a foreign job
UPDATE batch SET size = size - 1 WHERE id = :batch_id AND state = 1 AND ready = 0;

-- batches_bury_children: what a failed task of a foreign job had created is gone (R7b)
UPDATE batch SET state = 2 WHERE creator_task_id = :task_id AND state = 1;

-- batches_follow: a task of a foreign job has another number; what it created stays its own
UPDATE batch SET creator_task_id = :new_id WHERE creator_task_id = :task_id;

-- attempts_follow: and so do its attempts, from when the job was ours
UPDATE attempt SET task_id = :new_id WHERE task_id = :task_id;

-- children_counted: how many tasks that a task created are where
SELECT b.sequence, t.state, count(*)
FROM batch AS b JOIN task AS t ON t.batch_id = b.id
WHERE b.creator_task_id = :task_id AND b.state = 1
GROUP BY b.sequence, t.state;

-- tasks_numbered: numbers of arrival among these that a job has given already
SELECT t.id & 4294967295 FROM json_each(:ids) AS w JOIN task AS t ON t.id = w.value LIMIT 1;

-- task_add_foreign: a new task of a foreign job, as its manager wrote it (R7b)
INSERT INTO task (
    id, uuid, batch_id, sequence, state, parameters, runtime_constraints, command, progress, success,
    output, started_at, finished_at, attempts, failed_count, failed_at, failed_log, log, created_at,
    modified_at
)
VALUES (
    :id, :uuid, :batch_id, :sequence, :state, :parameters, :runtime_constraints, :command, :progress,
    :success, :output, :started_at, :finished_at, :attempts, :failed_count, :failed_at, :failed_log,
    :log, :now, :now
);

-- task_write: a task of a foreign job, as its manager left it (R7b)
UPDATE task SET
    id = :id, batch_id = :batch_id, sequence = :sequence, state = :state, parameters = :parameters,
    runtime_constraints = :runtime_constraints, command = :command, progress = :progress,
    success = :success, output = :output, started_at = :started_at, finished_at = :finished_at,
    attempts = :attempts, failed_count = :failed_count, failed_at = :failed_at,
    failed_log = :failed_log, log = :log, modified_at = :now
WHERE id = :task_id AND state = :old_state;

-- task_forget: a task of a foreign job is deleted, whatever its state
DELETE FROM task WHERE id = :task_id AND state = :state;
