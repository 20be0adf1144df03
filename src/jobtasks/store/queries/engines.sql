-- request_by_name: a request for nodes, for an agent that joins by it
SELECT id, job_id, state, ending FROM engine_request WHERE name = :name;

-- request_add: nodes are wanted
INSERT INTO engine_request (name, engine, job_id, ask, state, created_at)
VALUES (:name, :engine, :job_id, :ask, 'wanted', :now);

-- jobs_with_nodes: jobs that have nodes of their own
SELECT DISTINCT job_id FROM node WHERE job_id IS NOT NULL AND deleted_at IS NULL;

-- request_last_id: highest id of a request so far
SELECT max(id) FROM engine_request;

-- request_joined: an agent has joined by a request: it is granted, whatever the engine has said
UPDATE engine_request SET
    state = 'granted', granted_at = coalesce(granted_at, :now), joined = joined + :new
WHERE id = :request_id;

-- node_bind: a node serves the job for which it was granted, and comes back from being given back
UPDATE node SET
    job_id = :job_id, request_id = :request_id, place = :place, leaving = 0, lost_at = NULL,
    idle_since = NULL, draining = CASE WHEN leaving > 0 THEN 0 ELSE draining END
WHERE id = :node_id;

-- node_lost: the agent of a granted node is lost
UPDATE node SET lost_at = :now WHERE id = :node_id AND request_id IS NOT NULL AND leaving < 2;

-- requests_open: requests that are not over
SELECT id, name, job_id, state, ask, engine_id, places, joined, ending, created_at, asked_at, granted_at,
    ends_at
FROM engine_request WHERE state <> 'over' ORDER BY id;

-- requests_of_job: what was asked for a job and is not over, as people are told
SELECT engine, name, state, engine_id, word, reason, ending, created_at FROM engine_request
WHERE state <> 'over' AND job_id = :job_id ORDER BY id;

-- requests_failed: how many requests for a job in a row have brought no node, when the last ended, and why
SELECT count(*), max(over_at), (
    SELECT reason FROM engine_request WHERE job_id = :job_id AND state = 'over' ORDER BY id DESC LIMIT 1
)
FROM engine_request
WHERE job_id = :job_id AND state = 'over' AND joined = 0 AND reason IS NOT NULL AND id > coalesce((
    SELECT max(id) FROM engine_request WHERE job_id = :job_id AND joined > 0
), 0);

-- requests_by_state: how many requests are in each state that is not over
SELECT state, count(*) FROM engine_request WHERE state <> 'over' GROUP BY state;

-- requests_failed_lately: what brought no node, though nobody of ours ended it, by reason, the last first
SELECT reason, count(*), max(over_at) FROM engine_request
WHERE state = 'over' AND joined = 0 AND reason IS NOT NULL AND ending IS NULL AND over_at > :after
GROUP BY reason ORDER BY max(over_at) DESC LIMIT :limit;

-- hosts_tried: what was asked lately of a standing engine and is over
SELECT ask FROM engine_request WHERE job_id IS NULL AND state = 'over' AND over_at > :after;

-- jobs_needing_nodes: jobs that our manager runs or is to start, the oldest first, and those over with requests
SELECT j.id, j.uuid, j.state, j.runtime_constraints, y.live
FROM job AS j JOIN tally AS y ON y.job_id = j.id
WHERE j.managed = 1 AND (
    j.state = 'Running'
    OR j.id IN (SELECT id FROM job WHERE state = 'Queued' AND managed = 1 ORDER BY id LIMIT :limit)
    OR j.id IN (SELECT job_id FROM engine_request WHERE state <> 'over' AND job_id IS NOT NULL)
);

-- requests_orphaned: requests for jobs that were deleted
SELECT r.id FROM engine_request AS r
WHERE r.state <> 'over' AND r.job_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM job AS j WHERE j.id = r.job_id);

-- nodes_granted: nodes that joined by an engine's requests for jobs and are not forgotten
SELECT n.id, n.request_id, n.job_id, n.place, n.memory_kib, n.cores, n.scratch_mb, n.slots,
    coalesce(a.live, 0),
    n.draining = 0 AND n.held_seconds = 0 AND (n.held_until IS NULL OR n.held_until <= :now),
    n.leaving, u.slots_taken, n.idle_since, n.lost_at
FROM node AS n INDEXED BY node_request
JOIN node_use AS u ON u.node_id = n.id
LEFT JOIN agent AS a ON a.id = n.agent_id
WHERE n.request_id IS NOT NULL AND n.job_id IS NOT NULL AND n.deleted_at IS NULL
ORDER BY n.id;

-- nodes_idle: granted nodes on which nothing runs are idle from now on, the others are not
UPDATE node SET idle_since = CASE
    WHEN EXISTS (SELECT 1 FROM occupancy AS o WHERE o.node_id = node.id) THEN NULL
    ELSE CAST(:now AS BIGINT)
END
WHERE request_id IS NOT NULL AND deleted_at IS NULL
AND (idle_since IS NULL) <> EXISTS (SELECT 1 FROM occupancy AS o WHERE o.node_id = node.id);

-- demand_of_job: what runs and what could run of a job's frontier, by needs
SELECT s.needs, l.ready FROM tally AS y
JOIN lane AS l ON l.job_id = y.job_id AND l.sequence = y.frontier AND l.ready > 0
JOIN shape AS s ON s.id = l.shape_id
WHERE y.job_id = :job_id
UNION ALL
SELECT s.needs, count(*) FROM attempt AS a INDEXED BY attempt_job_live
JOIN shape AS s ON s.id = a.shape_id
WHERE a.job_id = :job_id AND a.state < 3
GROUP BY s.needs;

-- node_give_back: a node takes nothing new, to be given back to its engine
UPDATE node SET draining = 1, draining_reason = :reason, leaving = 1, modified_at = :now
WHERE id = :node_id AND leaving = 0;

-- node_send_away: the agent of a node that is given back goes
UPDATE node SET leaving = 2, modified_at = :now WHERE id = :node_id AND leaving = 1;

-- nodes_forgotten: nodes that were given back, and those of jobs that are over, exist no more; their rows stay
UPDATE node SET deleted_at = :now, agent_id = NULL
WHERE request_id IS NOT NULL AND job_id IS NOT NULL AND deleted_at IS NULL
AND NOT EXISTS (SELECT 1 FROM agent AS a WHERE a.id = node.agent_id AND a.live = 1)
AND NOT EXISTS (SELECT 1 FROM occupancy AS o WHERE o.node_id = node.id)
AND (
    leaving = 2 OR (
        coalesce(lost_at, 0) < :lost_before
        AND EXISTS (SELECT 1 FROM engine_request AS r WHERE r.id = node.request_id AND r.state = 'over')
    )
);

-- request_end: the engine is to end a request; what it was not asked for yet is over at once
UPDATE engine_request SET
    ending = :reason,
    state = CASE WHEN state = 'wanted' THEN 'over' ELSE state END,
    over_at = CASE WHEN state = 'wanted' THEN :now ELSE over_at END
WHERE id = :request_id AND state <> 'over' AND ending IS NULL;

-- request_begin: the engine is about to be asked: until it answers nobody knows
UPDATE engine_request SET state = 'unknown', asked_at = :now WHERE id = :request_id AND state = 'wanted';

-- request_asked: the engine has taken a request
UPDATE engine_request SET state = 'asked', engine_id = :engine_id
WHERE id = :request_id AND state = 'unknown';

-- request_named: the engine's own id of a request that was granted before its making was answered
UPDATE engine_request SET engine_id = :engine_id
WHERE id = :request_id AND engine_id IS NULL AND state <> 'over';

-- request_again: the engine knows nothing of a request: it is to be asked again
UPDATE engine_request SET state = 'wanted' WHERE id = :request_id AND state = 'unknown' AND ending IS NULL;

-- request_seen: what the engine shows of a request
UPDATE engine_request SET
    state = CASE WHEN state = 'granted' THEN state ELSE :state END, engine_id = :engine_id, word = :word, reason = :reason, places = :places,
    ends_at = :ends_at,
    granted_at = CASE WHEN :state = 'granted' THEN coalesce(granted_at, :now) ELSE granted_at END
WHERE id = :request_id AND state <> 'over';

-- request_over: the engine holds nothing of a request any more
UPDATE engine_request SET state = 'over', over_at = :now, reason = :reason
WHERE id = :request_id AND state <> 'over';

-- requests_sweep: requests that have long been over and are nobody's last
DELETE FROM engine_request WHERE id IN (
    SELECT r.id FROM engine_request AS r
    WHERE r.state = 'over' AND r.over_at < :before
    LIMIT :limit
);

-- places_leaving: nodes of requests that are not over whose agents were sent away and have gone
SELECT n.request_id, n.place FROM node AS n INDEXED BY node_request
JOIN engine_request AS r ON r.id = n.request_id AND r.state = 'granted' AND r.ending IS NULL
LEFT JOIN agent AS a ON a.id = n.agent_id AND a.live = 1
WHERE n.request_id IS NOT NULL AND n.leaving = 2 AND a.id IS NULL
ORDER BY n.id;
