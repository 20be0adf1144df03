-- A node says for whom it keeps slots (R18, R25).

DROP VIEW visible_node;
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
        WHEN NOT f.live OR f.draining OR f.held THEN 'down'
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
        WHEN f.held THEN 'held'
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
    f.held AS held,
    f.held AND f.held_until IS NULL AS on_trial,
    CASE WHEN f.held_until < 4611686018427387904 THEN f.held_until END AS held_until,
    f.held_reason AS held_reason,
    f.held_by_user_uuid AS held_by_user_uuid,
    CASE
        WHEN f.kept_job_id IS NOT NULL THEN 'job'
        WHEN EXISTS (SELECT 1 FROM kept AS k WHERE k.node_id = f.id) THEN 'gang'
    END AS kept_for,
    f.job_uuid AS job_uuid,
    f.job_owner_uuid AS job_owner_uuid
FROM (
    SELECT
        n.*,
        coalesce(a.live, 0) AS live,
        n.held_until IS NOT NULL OR n.held_seconds > 0 AS held,
        coalesce(a.heard_at, a.joined_at) AS heard_at,
        j.uuid AS job_uuid,
        j.owner_uuid AS job_owner_uuid,
        u.slots_taken AS attempts_live,
        u.reserved_kib AS reserved_kib
    FROM node AS n
    JOIN node_use AS u ON u.node_id = n.id
    LEFT JOIN agent AS a ON a.id = n.agent_id
    LEFT JOIN job AS j ON j.id = n.job_id
    WHERE n.deleted_at IS NULL
) AS f;
