-- What happens, in order of commits: one row for each transaction in which something happened, and rows
-- that users write. An entry's id is the row's id * 65536 + its place; places begin at 1.

CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
    at INTEGER NOT NULL,
    facts TEXT NOT NULL -- JSON: [[event_type, job_id, task_id, node_id, summary, properties], …]
);

CREATE TABLE log (
    id INTEGER PRIMARY KEY, -- place 0 of an event row of its own
    uuid TEXT NOT NULL UNIQUE,
    owner_uuid TEXT NOT NULL,
    object_uuid TEXT,
    object_owner_uuid TEXT,
    event_at INTEGER NOT NULL,
    event_type TEXT,
    summary TEXT,
    properties TEXT NOT NULL DEFAULT '{}',
    created_at INTEGER NOT NULL
);
CREATE INDEX log_object ON log (object_uuid, id);

-- Both as readers see them. What happened to a job that was deleted since is seen no more, but for its
-- deletion, which names it.
CREATE VIEW visible_log AS
SELECT
    l.id AS id,
    l.id >> 16 AS event_id,
    l.uuid AS uuid,
    l.owner_uuid AS owner_uuid,
    l.created_at AS created_at,
    l.created_at AS modified_at,
    l.owner_uuid AS modified_by_user_uuid,
    NULL AS modified_by_client_uuid,
    l.object_uuid AS object_uuid,
    l.object_owner_uuid AS object_owner_uuid,
    l.event_at AS event_at,
    l.event_type AS event_type,
    l.summary AS summary,
    l.properties AS properties,
    coalesce(
        (SELECT j.id FROM job AS j WHERE j.uuid = l.object_uuid),
        (SELECT t.id >> 32 FROM task AS t WHERE t.uuid = l.object_uuid)
    ) AS job_id
FROM log AS l
UNION ALL
SELECT
    (e.id << 16) + f.key + 1 AS id,
    e.id AS event_id,
    m.value || printf('-57u5n-%015d', (e.id << 16) + f.key + 1) AS uuid,
    coalesce(j.owner_uuid, json_extract(f.value, '$[5].owner_uuid'), m.value || '-tpzed-000000000000000')
        AS owner_uuid,
    e.at AS created_at,
    e.at AS modified_at,
    NULL AS modified_by_user_uuid,
    NULL AS modified_by_client_uuid,
    coalesce(t.uuid, j.uuid, n.uuid, json_extract(f.value, '$[5].uuid')) AS object_uuid,
    coalesce(j.owner_uuid, json_extract(f.value, '$[5].owner_uuid'), m.value || '-tpzed-000000000000000')
        AS object_owner_uuid,
    e.at AS event_at,
    json_extract(f.value, '$[0]') AS event_type,
    json_extract(f.value, '$[4]') AS summary,
    CASE
        WHEN t.id IS NOT NULL AND n.id IS NOT NULL
        THEN json_set(json_extract(f.value, '$[5]'), '$.attempt.node', n.hostname)
        ELSE json_extract(f.value, '$[5]')
    END AS properties,
    json_extract(f.value, '$[1]') AS job_id
FROM event AS e
JOIN json_each(e.facts) AS f
JOIN meta AS m ON m.key = 'uuid_prefix'
LEFT JOIN job AS j ON j.id = json_extract(f.value, '$[1]')
LEFT JOIN task AS t ON t.id = json_extract(f.value, '$[2]')
LEFT JOIN node AS n ON n.id = json_extract(f.value, '$[3]')
WHERE (json_extract(f.value, '$[1]') IS NULL OR j.id IS NOT NULL)
    AND (json_extract(f.value, '$[2]') IS NULL OR t.id IS NOT NULL);
