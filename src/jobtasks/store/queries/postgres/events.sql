-- event_add: what happened in one transaction
INSERT INTO event (id, at, facts)
SELECT 1 + greatest(c.seq, (SELECT id FROM event ORDER BY id DESC LIMIT 1)), :at,
    replace(CAST(:facts AS TEXT), '\u0000', '\ufffd')
FROM counter AS c WHERE c.name = 'event';

-- events_newest: id of the newest row, also when it was swept
SELECT greatest(
    (SELECT seq FROM counter WHERE name = 'event'), (SELECT id FROM event ORDER BY id DESC LIMIT 1)
);

-- events_sweep: rows that are too old, or too many; the highest of their ids is not given again
WITH gone AS (
    DELETE FROM event WHERE id IN (SELECT id FROM event ORDER BY id LIMIT :limit)
    AND (at < :before OR id <= :last_id) RETURNING id
)
UPDATE counter SET seq = (SELECT max(id) FROM gone)
WHERE name = 'event' AND seq < (SELECT max(id) FROM gone);

-- ids_begun: a table whose ids have not begun counts from 0
INSERT INTO counter (name, seq) VALUES (:name, 0) ON CONFLICT (name) DO NOTHING;

-- ids_leap: ids of a table go on above a floor
WITH leapt AS (UPDATE counter SET seq = greatest(seq, :floor) WHERE name = :name RETURNING name, seq)
SELECT CASE WHEN name = 'agent' THEN setval('agent_id_seq', greatest(seq, (SELECT max(id) FROM agent))) END
FROM leapt;
