-- level_recount: counters recomputed from rows, as a retry begins (R23)
INSERT INTO level (job_id, sequence, todo, running, done, failed)
SELECT CAST(:job_id AS BIGINT), t.sequence, count(*) FILTER (WHERE t.state = 0), count(*) FILTER (WHERE t.state = 1),
    count(*) FILTER (WHERE t.state = 2), count(*) FILTER (WHERE t.state = 3)
FROM task AS t JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
WHERE t.id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295
GROUP BY t.sequence;

-- lane_recount: ready tasks recomputed from batches and requeued tasks (R23)
INSERT INTO lane (job_id, sequence, shape_id, ready, priority, owner_uuid)
SELECT :job_id, f.sequence, f.shape_id, sum(f.ready), j.priority, j.owner_uuid FROM (
    SELECT sequence, shape_id, ready FROM batch WHERE job_id = :job_id AND state = 1 AND ready > 0
    UNION ALL
    SELECT sequence, shape_id, 1 FROM requeue
    WHERE due = 1 AND task_id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295
) AS f JOIN job AS j ON j.id = :job_id
GROUP BY f.sequence, f.shape_id, j.priority, j.owner_uuid;

-- avoided_by_task: nodes that a task avoids
SELECT w.value FROM requeue AS q CROSS JOIN unnest(ids_of(q.avoid)) AS w (value)
WHERE q.task_id = :task_id AND q.avoid_until > :now;
