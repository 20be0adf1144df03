-- Checks of checks.sql that look at something else in PostgreSQL, by their names there.

-- turn_of_lane: a lane that does not know whose turn it is (R18)
SELECT 'counted', * FROM (
    SELECT l.job_id, l.sequence, l.shape_id, j.priority, j.owner_uuid, y.slots
    FROM lane AS l JOIN job AS j ON j.id = l.job_id JOIN tally AS y ON y.job_id = l.job_id
    WHERE l.live = 1 AND l.ready > 0
    EXCEPT SELECT job_id, sequence, shape_id, priority, owner_uuid, slots FROM turn
) AS c
UNION ALL
SELECT 'kept', * FROM (
    SELECT job_id, sequence, shape_id, priority, owner_uuid, slots FROM turn
    EXCEPT
    SELECT l.job_id, l.sequence, l.shape_id, l.priority, l.owner_uuid, y.slots
    FROM lane AS l JOIN tally AS y ON y.job_id = l.job_id
    WHERE l.live = 1 AND l.ready > 0
) AS k;
