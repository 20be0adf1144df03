-- What simulations and tests look at beside the statements of the service.

-- state_of_attempt: how far an attempt is
SELECT state FROM attempt WHERE id = :attempt;

-- new_attempts: attempts above an id: task, its sequence, its job's lowest open sequence and state
SELECT a.id, t.uuid, t.sequence, (
    SELECT min(o.sequence) FROM task AS o JOIN batch AS b ON b.id = o.batch_id AND b.state <> 2
    WHERE o.id >> 32 = a.job_id AND o.state <> 2
), j.state
FROM attempt AS a JOIN task AS t ON t.id = a.task_id JOIN job AS j ON j.id = a.job_id
WHERE a.id > :newest ORDER BY a.id;

-- complete_tasks: what was accepted, and of whom
SELECT t.uuid, t.attempt_id, t.output FROM task AS t
JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
WHERE t.state = 2;

-- job_states: every job
SELECT uuid, state FROM job;

-- jobs_at_last: every job with its live attempts and visible tasks
SELECT j.uuid, j.state, y.live, (
    SELECT count(*) FROM task AS t JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
    WHERE t.id >> 32 = j.id
) FROM job AS j JOIN tally AS y ON y.job_id = j.id;

-- attempts_lost: attempts that ended without a word of the agent that ran them
SELECT id, reason FROM attempt WHERE cause = 'agent_lost';
