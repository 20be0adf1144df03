-- What simulations and tests look at beside the statements of the service.

-- state_of_attempt: how far an attempt is
SELECT state FROM attempt WHERE id = :attempt;

-- new_attempts: attempts above an id: task, sequence, its job's lowest open one, state, whether it is halted
SELECT a.id, t.uuid, t.sequence, (
    SELECT min(o.sequence) FROM task AS o JOIN batch AS b ON b.id = o.batch_id AND b.state <> 2
    WHERE o.id >> 32 = a.job_id AND o.state <> 2
), j.state, EXISTS (
    SELECT 1 FROM task AS f JOIN batch AS b ON b.id = f.batch_id AND b.state <> 2
    WHERE f.id >> 32 = a.job_id AND f.state = 3
) AND coalesce(json_extract(j.runtime_constraints, '$.on_failure'), '') <> 'continue'
FROM attempt AS a JOIN task AS t ON t.id = a.task_id JOIN job AS j ON j.id = a.job_id
WHERE a.id > :newest ORDER BY a.id;

-- limits_broken: jobs, nodes and slots with more that occupies them than there may be
SELECT 'max_nodes', j.uuid FROM occupancy AS o JOIN job AS j ON j.id = o.job_id GROUP BY j.id
HAVING count(DISTINCT o.node_id) > CAST(json_extract(j.runtime_constraints, '$.max_nodes') AS INTEGER)
UNION ALL
SELECT 'max_tasks_per_node', j.uuid FROM occupancy AS o JOIN job AS j ON j.id = o.job_id
GROUP BY j.id, o.node_id
HAVING count(*) > CAST(json_extract(j.runtime_constraints, '$.max_tasks_per_node') AS INTEGER)
UNION ALL
SELECT 'memory', n.lasting_id FROM occupancy AS o JOIN node AS n ON n.id = o.node_id
GROUP BY n.id HAVING sum(o.memory_kib) > n.memory_kib
UNION ALL
SELECT 'slot', n.lasting_id FROM occupancy AS o JOIN node AS n ON n.id = o.node_id
JOIN attempt AS a ON a.id = o.attempt_id WHERE a.state = 1 OR o.is_first = 0
GROUP BY n.id, o.slot HAVING count(*) > 1;

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

-- nodes_there: every node, by what its machine calls itself
SELECT uuid, lasting_id FROM node;

-- attempts_lost: attempts that ended without a word of the agent that ran them
SELECT id, reason FROM attempt WHERE cause = 'agent_lost';
