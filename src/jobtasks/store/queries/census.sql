-- census_jobs: jobs by state
SELECT state, count(*) FROM job GROUP BY state;

-- census_jobs_of_user: jobs of a user by state
SELECT state, count(*) FROM job WHERE owner_uuid = :user_uuid GROUP BY state;

-- census_tasks: tasks by state over all jobs, from their counters
SELECT
    coalesce(sum(todo), 0), coalesce(sum(running), 0), coalesce(sum(done), 0),
    coalesce(sum(failed), 0), coalesce(sum(live), 0)
FROM tally;

-- census_nodes: nodes whose agent is heard, and their slots
SELECT count(*), coalesce(sum(n.slots), 0)
FROM agent AS a JOIN node AS n ON n.agent_id = a.id
WHERE a.live = 1;

-- census_node_states: nodes by state
SELECT state, count(*) FROM visible_node GROUP BY state;

-- census_oldest_job: when the oldest queued job was created
SELECT created_at FROM job WHERE state = 'Queued' ORDER BY id LIMIT 1;

-- census_oldest_task: when the oldest task was created that could start, from heads of batches
SELECT min(t.created_at) FROM (
    SELECT (
        SELECT b.head FROM batch AS b
        WHERE b.job_id = l.job_id AND b.sequence = l.sequence AND b.shape_id = l.shape_id
        AND b.state = 1 AND b.ready > 0
        ORDER BY b.head LIMIT 1
    ) AS head
    FROM lane AS l WHERE l.live = 1 AND l.ready > 0
) AS h JOIN task AS t ON t.id = h.head;
