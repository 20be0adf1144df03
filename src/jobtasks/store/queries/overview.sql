-- overview_oldest_running: tasks of one sequence of a job that run longest
SELECT t.uuid, a.task_id & 4294967295, a.number, coalesce(a.started_at, a.assigned_at), n.hostname, a.slot
FROM attempt AS a INDEXED BY attempt_job_live
JOIN task AS t ON t.id = a.task_id
JOIN node AS n ON n.id = a.node_id
WHERE a.job_id = :job_id AND a.state < 3 AND t.sequence = :sequence
ORDER BY coalesce(a.started_at, a.assigned_at), a.id
LIMIT :limit;

-- overview_running: ids of tasks of a job that run, from one on
SELECT DISTINCT a.task_id
FROM attempt AS a INDEXED BY attempt_job_live
WHERE a.job_id = :job_id AND a.state < 3 AND a.state < 2 AND a.task_id > :after
ORDER BY a.task_id
LIMIT :limit;

-- overview_first_waiting: id of a task of a job before which none waits
SELECT min(id) FROM (
    SELECT min(head) AS id FROM batch WHERE job_id = :job_id AND state <> 2 AND ready > 0
    UNION ALL
    SELECT min(task_id) FROM requeue WHERE job_id = :job_id
) AS w;
