-- lanes_live_of_job: the same of one job; how many slots it has stands with its counts
SELECT l.job_id, l.sequence, l.shape_id, l.priority, l.owner_uuid, y.slots, coalesce(u.slots, 0), EXISTS (
    SELECT 1 FROM requeue AS q
    WHERE q.job_id = l.job_id AND q.sequence = l.sequence AND q.shape_id = l.shape_id AND q.due = 1
), s.needs
FROM tally AS y
JOIN lane AS l ON l.job_id = y.job_id AND l.sequence = y.frontier
JOIN shape AS s ON s.id = l.shape_id
LEFT JOIN usage AS u ON u.owner_uuid = l.owner_uuid
WHERE y.job_id = :job_id AND l.live = 1 AND l.ready > 0;

-- jobs_needing_nodes: jobs that our manager runs or is to start, and those over with requests
SELECT j.id, j.uuid, j.state, j.runtime_constraints, y.live
FROM job AS j JOIN tally AS y ON y.job_id = j.id
WHERE j.managed = 1 AND j.id = ANY (ARRAY(
    SELECT id FROM job WHERE state = 'Running'
    UNION ALL
    (SELECT id FROM job WHERE state = 'Queued' AND managed = 1 ORDER BY id LIMIT :limit)
    UNION ALL
    SELECT job_id FROM engine_request WHERE state <> 'over' AND job_id IS NOT NULL
));
