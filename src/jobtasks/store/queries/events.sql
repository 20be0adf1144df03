-- event_add: what happened in one transaction
INSERT INTO event (at, facts) VALUES (:at, :facts);

-- events_newest: id of the newest row, also when it was swept
SELECT seq FROM sqlite_sequence WHERE name = 'event';

-- events_kept_from: id of the oldest row that is kept
SELECT min(id) FROM event;

-- events_after: entries of the rows after one, in order
SELECT * FROM visible_log WHERE event_id > :after AND event_id <= :upto ORDER BY id;

-- events_oldest_at: when the oldest row was written
SELECT at FROM event ORDER BY id LIMIT 1;

-- events_sweep: rows that are too old, or too many
DELETE FROM event WHERE id IN (SELECT id FROM event ORDER BY id LIMIT :limit)
AND (at < :before OR id <= :last_id);

-- log_add: an entry that a user writes
INSERT INTO log (
    id, uuid, owner_uuid, object_uuid, object_owner_uuid, event_at, event_type, summary, properties,
    created_at
)
VALUES (
    :id, :uuid, :owner_uuid, :object_uuid, :object_owner_uuid, :event_at, :event_type, :summary,
    :properties, :now
);

-- log_by_id: an entry by its place, which its uuid spells
SELECT * FROM visible_log WHERE event_id = :event_id AND id = :id;

-- object_owner: who owns what an entry may be about
SELECT owner_uuid FROM job WHERE uuid = :uuid
UNION ALL
SELECT j.owner_uuid FROM task AS t JOIN job AS j ON j.id = t.id >> 32 WHERE t.uuid = :uuid
UNION ALL
SELECT u.uuid FROM user AS u WHERE u.uuid = :uuid;

-- job_of_object: the job that an entry is about, or whose task it is about
SELECT id FROM job WHERE uuid = :uuid
UNION ALL
SELECT id >> 32 FROM task WHERE uuid = :uuid;

-- task_name: what a task is called
SELECT uuid FROM task WHERE id = :task_id;
