-- Slots are shared by priority, user, job and age (R18); tasks that take several nodes at once (R25);
-- jobs that wait for several free nodes (R18).

ALTER TABLE tally ADD COLUMN slots INTEGER NOT NULL DEFAULT 0; -- that its live attempts have, on all nodes
UPDATE tally SET slots = live;

-- Slots that the jobs of one user have.
CREATE TABLE usage (
    owner_uuid TEXT PRIMARY KEY,
    slots INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO usage (owner_uuid, slots)
SELECT j.owner_uuid, sum(y.slots) FROM tally AS y JOIN job AS j ON j.id = y.job_id GROUP BY j.owner_uuid;

-- A lane knows whose turn it is: these follow the job while the lane is live.
ALTER TABLE lane ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE lane ADD COLUMN owner_uuid TEXT NOT NULL DEFAULT '';
ALTER TABLE lane ADD COLUMN slots INTEGER NOT NULL DEFAULT 0; -- the job's
UPDATE lane SET
    priority = (SELECT j.priority FROM job AS j WHERE j.id = lane.job_id),
    owner_uuid = (SELECT j.owner_uuid FROM job AS j WHERE j.id = lane.job_id),
    slots = (SELECT y.slots FROM tally AS y WHERE y.job_id = lane.job_id);
DROP INDEX lane_live;
CREATE INDEX lane_turn ON lane (shape_id, priority, owner_uuid, slots, job_id) WHERE live = 1 AND ready > 0;

-- What follows from the slots of a job, in the statement that changes them: two more would be a third of
-- what a sync of one task costs.
CREATE TRIGGER tally_slots AFTER UPDATE OF slots ON tally WHEN NEW.slots <> OLD.slots
BEGIN
    INSERT INTO usage (owner_uuid, slots)
    SELECT j.owner_uuid, NEW.slots - OLD.slots FROM job AS j WHERE j.id = NEW.job_id
    ON CONFLICT (owner_uuid) DO UPDATE SET slots = usage.slots + excluded.slots;
    UPDATE lane SET slots = NEW.slots WHERE job_id = NEW.job_id AND live = 1;
END;

-- A gang's further nodes; a row stays when its attempt is over.
DROP TABLE seat;
CREATE TABLE seat (
    attempt_id INTEGER NOT NULL,
    node_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)), -- taken, given back, its node was lost
    PRIMARY KEY (attempt_id, node_id)
) WITHOUT ROWID;
CREATE INDEX seat_node ON seat (node_id, state);

-- The one gang that gathers its nodes, and the nodes that keep a slot with room for it (R25).
CREATE TABLE gathering (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    task_id INTEGER NOT NULL,
    since INTEGER NOT NULL
);
CREATE TABLE kept (
    node_id INTEGER PRIMARY KEY
);

-- Queued jobs that several nodes would do for, once these are free (R18).
CREATE TABLE start_wait (
    job_id INTEGER PRIMARY KEY,
    since INTEGER NOT NULL
);
ALTER TABLE node ADD COLUMN kept_job_id INTEGER; -- the job for whose start it takes nothing new

-- What takes a slot of a node: live attempts where they run, and the further nodes of gangs.
CREATE VIEW occupancy AS
SELECT a.id AS attempt_id, a.node_id AS node_id, a.job_id AS job_id, a.slot AS slot, a.shape_id AS shape_id,
    a.memory_kib AS memory_kib, 1 AS is_first
FROM attempt AS a WHERE a.state < 3
UNION ALL
SELECT s.attempt_id, s.node_id, a.job_id, s.slot, a.shape_id, a.memory_kib, 0
FROM seat AS s JOIN attempt AS a ON a.id = s.attempt_id WHERE s.state = 0;

-- How much of each node is taken. Attempts and seats are counted apart, each by its index: `occupancy` in
-- such a place is read whole, once for every node.
CREATE VIEW node_use AS
SELECT
    n.id AS node_id,
    (SELECT count(*) FROM attempt AS a WHERE a.node_id = n.id AND a.state < 3)
    + (SELECT count(*) FROM seat AS s WHERE s.node_id = n.id AND s.state = 0) AS slots_taken,
    (SELECT coalesce(sum(a.memory_kib), 0) FROM attempt AS a WHERE a.node_id = n.id AND a.state < 3)
    + (
        SELECT coalesce(sum(a.memory_kib), 0) FROM seat AS s JOIN attempt AS a ON a.id = s.attempt_id
        WHERE s.node_id = n.id AND s.state = 0
    ) AS reserved_kib
FROM node AS n;

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

-- A job as readers see it: its nodes are those of its gangs, too.
DROP VIEW visible_job;
CREATE VIEW visible_job AS
SELECT
    c.*,
    (
        SELECT json_group_array(n.uuid) FROM node AS n
        WHERE n.id IN (
            SELECT a.node_id FROM attempt AS a WHERE a.job_id = c.id AND a.state < 3
            UNION ALL
            SELECT s.node_id FROM attempt AS a JOIN seat AS s ON s.attempt_id = a.id AND s.state = 0
            WHERE a.job_id = c.id AND a.state < 3
        )
    ) AS node_uuids
FROM counted_job AS c;
