-- Nodes as people see and steer them: held, drained, deleted, and by whom; when an agent was heard last.

ALTER TABLE agent ADD COLUMN heard_at INTEGER; -- its last renewal
ALTER TABLE node ADD COLUMN draining_reason TEXT;
ALTER TABLE node ADD COLUMN held_by_user_uuid TEXT; -- null: the manager holds it (R16)
ALTER TABLE node ADD COLUMN modified_by_user_uuid TEXT;
ALTER TABLE node ADD COLUMN deleted_at INTEGER; -- the row stays: attempts name their node
CREATE INDEX node_held ON node (held_until) WHERE held_until IS NOT NULL;

-- A node as readers see it; its words stand in core/states.py. A hold without an end is stored as the
-- time 2^62, which no reader sees. What a hold is worth is told by held_until alone: the manager clears
-- it when it has passed.
CREATE VIEW visible_node AS
SELECT
    f.id AS id,
    f.uuid AS uuid,
    substr(f.uuid, 1, 5) || '-tpzed-000000000000000' AS owner_uuid,
    f.created_at AS created_at,
    f.modified_at AS modified_at,
    f.modified_by_user_uuid AS modified_by_user_uuid,
    NULL AS modified_by_client_uuid,
    f.hostname AS hostname,
    f.id - 1 AS slot_number,
    f.created_at AS first_ping_at,
    f.heard_at AS last_ping_at,
    CASE WHEN f.live THEN 'running' ELSE 'missing' END AS status,
    CASE
        WHEN NOT f.live OR f.draining OR f.held_until IS NOT NULL THEN 'down'
        WHEN f.attempts_live > 0 THEN 'busy'
        ELSE 'idle'
    END AS crunch_worker_state,
    json_object(
        'total_cpu_cores', f.cores,
        'total_ram_mb', f.memory_kib / 1024,
        'total_scratch_mb', f.scratch_mb
    ) AS properties,
    CASE
        WHEN NOT f.live THEN 'gone'
        WHEN f.draining AND f.attempts_live = 0 THEN 'drained'
        WHEN f.draining THEN 'draining'
        WHEN f.held_until IS NOT NULL THEN 'held'
        WHEN f.attempts_live >= f.slots THEN 'busy'
        ELSE 'live'
    END AS state,
    f.engine AS engine,
    f.slots AS slots,
    f.cores AS cores,
    f.memory_kib AS memory_kib,
    f.scratch_mb AS scratch_mb,
    f.attempts_live AS attempts_live,
    max(0, f.slots - f.attempts_live) AS free_slots,
    max(0, f.memory_kib - f.reserved_kib) AS free_memory_kib,
    f.draining AS draining,
    f.draining_reason AS draining_reason,
    CASE WHEN f.held_until < 4611686018427387904 THEN f.held_until END AS held_until,
    f.held_reason AS held_reason,
    f.held_by_user_uuid AS held_by_user_uuid,
    f.job_uuid AS job_uuid,
    f.job_owner_uuid AS job_owner_uuid
FROM (
    SELECT
        n.*,
        coalesce(a.live, 0) AS live,
        coalesce(a.heard_at, a.joined_at) AS heard_at,
        j.uuid AS job_uuid,
        j.owner_uuid AS job_owner_uuid,
        (SELECT count(*) FROM attempt AS t WHERE t.node_id = n.id AND t.state < 3) AS attempts_live,
        (
            SELECT coalesce(sum(t.memory_kib), 0) FROM attempt AS t
            WHERE t.node_id = n.id AND t.state < 3
        ) AS reserved_kib
    FROM node AS n
    LEFT JOIN agent AS a ON a.id = n.agent_id
    LEFT JOIN job AS j ON j.id = n.job_id
    WHERE n.deleted_at IS NULL
) AS f;
