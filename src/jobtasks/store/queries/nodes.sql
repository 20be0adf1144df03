-- node_by_lasting_id: a node that has joined before
SELECT id, agent_id, request_id FROM node WHERE lasting_id = :lasting_id;

-- node_add: a node joins for the first time
INSERT INTO node (
    uuid, lasting_id, hostname, engine, slots, memory_kib, cores, scratch_mb, created_at, modified_at
)
VALUES (
    :uuid, :lasting_id, :hostname, :engine, :slots, :memory_kib, :cores, :scratch_mb, :now, :now
);

-- node_update: a node joins again, perhaps with another size
UPDATE node SET
    hostname = :hostname, slots = :slots, memory_kib = :memory_kib, cores = :cores,
    scratch_mb = :scratch_mb, agent_id = :agent_id, modified_at = :now
WHERE id = :node_id;

-- node_come_back: a node that was deleted joins again, as a new one would
UPDATE node SET
    deleted_at = NULL, draining = 0, draining_reason = NULL, held_until = NULL, held_seconds = 0,
    held_reason = NULL, held_by_user_uuid = NULL, losing_streak = '[]', losing_job_id = NULL,
    losing_witnessed = 0
WHERE id = :node_id AND deleted_at IS NOT NULL;

-- node_by_uuid: a node as readers see it
SELECT * FROM visible_node WHERE uuid = :uuid;

-- node_hold: a node takes nothing new until a time, or until it is released
UPDATE node SET
    held_until = :held_until, held_reason = :reason, held_by_user_uuid = :changed_by,
    modified_by_user_uuid = :changed_by, modified_at = :now
WHERE id = :node_id AND deleted_at IS NULL;

-- node_drain: a node takes nothing new until it is released
UPDATE node SET
    draining = 1, draining_reason = :reason, modified_by_user_uuid = :changed_by, modified_at = :now
WHERE id = :node_id AND deleted_at IS NULL;

-- node_release: a node takes work again; it must be held, on trial or draining
UPDATE node SET
    draining = 0, draining_reason = NULL, held_until = NULL, held_seconds = 0, held_reason = NULL,
    held_by_user_uuid = NULL, losing_streak = '[]', losing_job_id = NULL, losing_witnessed = 0,
    modified_by_user_uuid = :changed_by, modified_at = :now
WHERE id = :node_id AND (draining = 1 OR held_until IS NOT NULL OR held_seconds > 0);

-- node_delete: a node that is gone exists no more; its row stays, as attempts name it
UPDATE node SET deleted_at = :now, agent_id = NULL, modified_by_user_uuid = :changed_by
WHERE id = :node_id AND deleted_at IS NULL
AND NOT EXISTS (SELECT 1 FROM agent WHERE id = node.agent_id AND live = 1)
AND NOT EXISTS (SELECT 1 FROM occupancy AS o WHERE o.node_id = node.id);

-- nodes_keep: these nodes take nothing new until a job has started, all others do (R18)
UPDATE node SET kept_job_id = CASE WHEN id IN (SELECT value FROM json_each(:node_ids)) THEN :job_id END
WHERE kept_job_id IS NOT CASE WHEN id IN (SELECT value FROM json_each(:node_ids)) THEN :job_id END;

-- nodes_release: nodes whose hold has passed take work again, those that the manager held on trial
UPDATE node SET
    held_until = NULL, held_by_user_uuid = NULL, modified_at = :now,
    held_reason = CASE WHEN held_seconds > 0 AND held_by_user_uuid IS NULL THEN held_reason END
WHERE held_until IS NOT NULL AND held_until <= :now;

-- node_standing: what is remembered of a node's failures
SELECT slots, losing_streak, losing_witnessed, held_seconds, job_id FROM node WHERE id = :node_id;

-- node_job: the only job that a node serves
SELECT job_id FROM node WHERE id = :node_id;

-- node_lose: one more failure in a row on a node
UPDATE node SET
    losing_streak = :streak, losing_job_id = :only_job, losing_witnessed = :is_witnessed
WHERE id = :node_id;

-- nodes_succeed: a task completed: its node's streak ends, streaks of its job elsewhere are witnessed
UPDATE node SET
    losing_streak = CASE WHEN id = :node_id THEN '[]' ELSE losing_streak END,
    losing_job_id = CASE WHEN id = :node_id THEN NULL ELSE losing_job_id END,
    losing_witnessed = id <> :node_id
WHERE (id = :node_id AND losing_streak <> '[]') OR (losing_job_id = :job_id AND losing_witnessed = 0);

-- node_suspect: a node is held by the manager; what an administrator does to it goes before
UPDATE node SET
    held_seconds = :seconds, held_until = max(coalesce(held_until, 0), :held_until),
    held_reason = CASE WHEN held_by_user_uuid IS NULL THEN :reason ELSE held_reason END,
    losing_streak = '[]', losing_job_id = NULL, losing_witnessed = 0, modified_at = :now
WHERE id = :node_id;

-- nodes_hold_less: no hold of the manager is longer than it was meant to be, after a clock was set back (R16)
UPDATE node SET held_until = :now + CAST(held_seconds * 1000000 AS INTEGER)
WHERE held_seconds > 0 AND held_by_user_uuid IS NULL
AND held_until > :now + CAST(held_seconds * 1000000 AS INTEGER);

-- node_trust: a node that the manager held takes work like any other
UPDATE node SET
    held_seconds = 0, losing_streak = '[]', losing_job_id = NULL, losing_witnessed = 0,
    held_until = CASE WHEN held_by_user_uuid IS NOT NULL THEN held_until END,
    held_reason = CASE WHEN held_by_user_uuid IS NOT NULL THEN held_reason END,
    modified_at = :now
WHERE id = :node_id AND held_seconds > 0;

-- nodes_distrusted: live nodes that only the manager keeps from work, those of all jobs and of one
SELECT n.id FROM agent AS a JOIN node AS n ON n.id = a.node_id
WHERE a.live = 1 AND n.draining = 0 AND n.held_seconds > 0 AND n.held_by_user_uuid IS NULL
AND (n.job_id IS NULL OR n.job_id = :job_id)
ORDER BY n.id;

-- canaries_live: how many attempts of a node on trial have not ended
SELECT count(*) FROM attempt WHERE node_id = :node_id AND state < 3 AND canary = 1;

-- losses_counted: attempts of a streak that used a budget, with their tasks
SELECT a.id, a.cause, t.id, t.spent
FROM json_each(:attempt_ids) AS w
JOIN attempt AS a ON a.id = w.value
JOIN task AS t ON t.id = a.task_id
WHERE a.counted = 1
ORDER BY a.id;

-- attempt_excuse: a failure was its node's doing and uses no budget
UPDATE attempt SET
    counted = 0, node_fault = 1, reason = coalesce(reason || '; ', '') || :mark
WHERE id = :attempt_id AND counted = 1;

-- task_spent: budgets that a task has used
SELECT spent FROM task WHERE id = :task_id;

-- task_excuse: budgets that a task has used, as long as it is not over
UPDATE task SET spent = :spent WHERE id = :task_id AND state < 2;

-- nodes_held_next: when the next hold passes
SELECT min(held_until) FROM node WHERE held_until IS NOT NULL AND held_until < 4611686018427387904;

-- occupying_attempts: attempts that have slots of a node, and whose they are
SELECT a.number, a.state, o.slot, a.memory_kib, a.assigned_at, a.started_at, t.uuid, t.sequence,
    t.id & 4294967295, j.uuid, j.owner_uuid
FROM occupancy AS o
JOIN attempt AS a ON a.id = o.attempt_id
JOIN task AS t ON t.id = a.task_id
JOIN job AS j ON j.id = a.job_id
WHERE o.node_id = :node_id
ORDER BY o.slot, a.id;

-- node_of_agent: the node that an agent serves, when it is live
SELECT n.id, n.hostname, n.slots, n.memory_kib, n.cores, n.scratch_mb, n.draining, n.held_until,
    n.held_seconds, n.kept_job_id, n.job_id, n.leaving, a.sync_number, a.live
FROM agent AS a JOIN node AS n ON n.id = a.node_id
WHERE a.id = :agent_id;

-- nodes_usable: nodes that take new work of all jobs, or of one, and how many live attempts each has
SELECT n.id, n.memory_kib, n.cores, n.scratch_mb, n.slots, n.held_seconds > 0,
    u.slots_taken, u.reserved_kib
FROM agent AS a JOIN node AS n ON n.id = a.node_id JOIN node_use AS u ON u.node_id = n.id
WHERE a.live = 1 AND n.draining = 0 AND (n.held_until IS NULL OR n.held_until <= :now)
AND (n.job_id IS NULL OR n.job_id = :job_id)
ORDER BY n.id;

-- nodes_alike: such nodes by their sizes, one of each and how many there are; some left out
SELECT min(n.id), n.memory_kib, n.cores, n.scratch_mb, count(*)
FROM agent AS a JOIN node AS n ON n.id = a.node_id
WHERE a.live = 1 AND n.draining = 0 AND (n.held_until IS NULL OR n.held_until <= :now)
AND n.held_seconds <= :held_seconds_max AND (n.job_id IS NULL OR n.job_id = :job_id)
AND n.id NOT IN (SELECT value FROM json_each(:without))
GROUP BY n.memory_kib, n.cores, n.scratch_mb;

-- agent_add: an agent joins
INSERT INTO agent (node_id, incarnation, lease_until, joined_at, heard_at)
VALUES (:node_id, :incarnation, :lease_until, :now, :now);

-- agent_renew: an agent is heard; its sync must be newer than the last (R33)
UPDATE agent SET sync_number = :number, lease_until = :lease_until, heard_at = :now
WHERE id = :agent_id AND live = 1 AND sync_number < :number;

-- agent_end: an agent is gone
UPDATE agent SET live = 0, gone_at = :now WHERE id = :agent_id AND live = 1;

-- agents_of_node_end: earlier agents of a node are gone
UPDATE agent SET live = 0, gone_at = :now WHERE node_id = :node_id AND live = 1;

-- agents_expired: agents that were not heard for a whole lease
SELECT id, node_id FROM agent WHERE live = 1 AND lease_until < :now;

-- agents_spare: every live agent gets a whole lease from now (R33)
UPDATE agent SET lease_until = :lease_until WHERE live = 1;

-- attempts_spare: attempts that nobody names get a whole lease from now (R33)
UPDATE attempt SET missing_since = :now WHERE state < 3 AND missing_since IS NOT NULL;

-- attempts_hand_over: attempts that go on under another agent of the node
UPDATE attempt SET agent_id = :agent_id WHERE node_id = :node_id AND state < 3;
