-- node_by_lasting_id: a node that has joined before
SELECT id, agent_id FROM node WHERE lasting_id = :lasting_id;

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

-- node_of_agent: the node that an agent serves, when it is live
SELECT n.id, n.hostname, n.slots, n.memory_kib, n.cores, n.scratch_mb, n.draining, n.held_until,
    a.sync_number, a.live
FROM agent AS a JOIN node AS n ON n.id = a.node_id
WHERE a.id = :agent_id;

-- nodes_usable: nodes with a live agent that take new work, and how many live attempts each has
SELECT n.id, n.memory_kib, n.cores, n.scratch_mb, n.slots,
    (SELECT count(*) FROM attempt AS t WHERE t.node_id = n.id AND t.state < 3),
    (SELECT coalesce(sum(t.memory_kib), 0) FROM attempt AS t WHERE t.node_id = n.id AND t.state < 3)
FROM agent AS a JOIN node AS n ON n.id = a.node_id
WHERE a.live = 1 AND n.draining = 0 AND (n.held_until IS NULL OR n.held_until <= :now)
ORDER BY n.id;

-- agent_add: an agent joins
INSERT INTO agent (node_id, incarnation, lease_until, joined_at)
VALUES (:node_id, :incarnation, :lease_until, :now);

-- agent_renew: an agent is heard; its sync must be newer than the last (R33)
UPDATE agent SET sync_number = :number, lease_until = :lease_until
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
