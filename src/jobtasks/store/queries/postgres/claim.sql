-- lanes_live: lanes with tasks that may start, with their owners' slots, whether retries are due, and needs
SELECT l.job_id, l.sequence, l.shape_id, l.priority, l.owner_uuid, y.slots, coalesce(u.slots, 0), EXISTS (
    SELECT 1 FROM requeue AS q
    WHERE q.job_id = l.job_id AND q.sequence = l.sequence AND q.shape_id = l.shape_id AND q.due = 1
), s.needs
FROM (SELECT * FROM lane WHERE live = 1 AND ready > 0 LIMIT :limit) AS l
JOIN tally AS y ON y.job_id = l.job_id
JOIN shape AS s ON s.id = l.shape_id
LEFT JOIN usage AS u ON u.owner_uuid = l.owner_uuid;

-- turn_owners: whose jobs have tasks of these shapes ready, at the highest priority below another; the slots they have, each one's first job by shape
WITH RECURSIVE top AS MATERIALIZED (
    SELECT max((
        SELECT max(priority) FROM turn WHERE shape_id = w.value AND priority < :below
    )) AS priority
    FROM json_each(:shape_ids) AS w
), found (shape_id, priority, owner_uuid) AS (
    SELECT w.value, top.priority, (
        SELECT min(owner_uuid) FROM turn WHERE shape_id = w.value AND priority = top.priority
    )
    FROM json_each(:shape_ids) AS w, top
    UNION ALL
    SELECT shape_id, priority, (
        SELECT min(l.owner_uuid) FROM turn AS l
        WHERE l.shape_id = found.shape_id AND l.priority = found.priority
        AND l.owner_uuid > found.owner_uuid
    )
    FROM found WHERE found.owner_uuid IS NOT NULL
), first AS (
    SELECT f.shape_id, f.priority, f.owner_uuid, l.slots, l.job_id
    FROM found AS f CROSS JOIN LATERAL (
        SELECT l.slots, l.job_id FROM turn AS l
        WHERE l.shape_id = f.shape_id AND l.priority = f.priority AND l.owner_uuid = f.owner_uuid
        ORDER BY l.slots, l.job_id LIMIT 1
    ) AS l
    WHERE f.owner_uuid IS NOT NULL
)
SELECT f.priority, f.owner_uuid, coalesce(u.slots, 0), f.slots, f.job_id
FROM first AS f LEFT JOIN usage AS u ON u.owner_uuid = f.owner_uuid;

-- turn_lanes: live lanes of an owner's jobs at a priority, the job with the fewest slots first, then by age
SELECT job_id, sequence, shape_id, slots FROM turn
WHERE shape_id = :shape_id AND priority = :priority
AND owner_uuid = :owner_uuid AND (slots, job_id) > (:after_slots, :after_job)
ORDER BY slots, job_id LIMIT :limit;

-- batch_heads: published batches of a lane that have tasks never claimed, by their first one; of more than a thousand those that began first
SELECT id, head FROM (
    SELECT id, head FROM batch
    WHERE job_id = :job_id AND sequence = :sequence AND shape_id = :shape_id AND state = 1 AND ready > 0
    ORDER BY first LIMIT 1000
) AS near
ORDER BY head LIMIT :limit;
