-- jobs_over_before: jobs that were over at a time and have no process left, the oldest first
SELECT j.id, j.uuid, j.state, coalesce(j.finished_at, j.cancelled_at, j.modified_at), j.owner_uuid
FROM job AS j INDEXED BY job_over JOIN tally AS y ON y.job_id = j.id AND y.live = 0
WHERE j.state IN ('Complete', 'Failed', 'Cancelled')
AND coalesce(j.finished_at, j.cancelled_at, j.modified_at) BETWEEN :after AND :before
AND (coalesce(j.finished_at, j.cancelled_at, j.modified_at), j.id) > (:after, :after_id)
ORDER BY coalesce(j.finished_at, j.cancelled_at, j.modified_at), j.id LIMIT :limit;

-- jobs_with_old_logs: the same, of jobs whose logs were not removed since
SELECT j.id, j.uuid, j.state, coalesce(j.finished_at, j.cancelled_at, j.modified_at), j.owner_uuid
FROM job AS j INDEXED BY job_has_logs JOIN tally AS y ON y.job_id = j.id AND y.live = 0
WHERE j.state IN ('Complete', 'Failed', 'Cancelled')
AND j.has_logs = 1
AND coalesce(j.finished_at, j.cancelled_at, j.modified_at) BETWEEN :after AND :before
AND (coalesce(j.finished_at, j.cancelled_at, j.modified_at), j.id) > (:after, :after_id)
ORDER BY coalesce(j.finished_at, j.cancelled_at, j.modified_at), j.id LIMIT :limit;

-- job_logs_gone: the logs of a job that is over are removed
UPDATE job SET logs_removed_at = :now, has_logs = 0 WHERE id = :job_id AND state = :state;

-- logs_of_jobs: of these names, which are those of jobs, also of arriving ones, and until when their logs were removed
SELECT w.value, j.logs_removed_at FROM json_each(:uuids) AS w JOIN job AS j ON j.uuid = w.value
UNION ALL
SELECT w.value, NULL FROM json_each(:uuids) AS w JOIN arrival AS r ON r.job_uuid = w.value;

-- packs_of_jobs: of these hashes, which are those of jobs, and whether some of these are not over
SELECT j.script_hash, max(CASE WHEN j.state IN ('Queued', 'Running') THEN 1 ELSE 0 END)
FROM json_each(:uuids) AS w JOIN job AS j ON j.script_hash = w.value
GROUP BY j.script_hash;

-- directories_of_pack: where jobs have the scripts of this hash
SELECT DISTINCT script_version FROM job WHERE script_hash = :hash LIMIT :limit;

-- tokens_over: how many tokens were revoked or ended before a time
SELECT count(*) FROM token INDEXED BY token_over
WHERE (revoked_at IS NOT NULL OR expires_at IS NOT NULL)
AND min(coalesce(revoked_at, expires_at), coalesce(expires_at, revoked_at)) <= :before;

-- tokens_sweep: tokens that were revoked or ended before a time
DELETE FROM token WHERE id IN (
    SELECT id FROM token INDEXED BY token_over
    WHERE (revoked_at IS NOT NULL OR expires_at IS NOT NULL)
    AND min(coalesce(revoked_at, expires_at), coalesce(expires_at, revoked_at)) <= :before
    LIMIT :limit
);

-- record_bytes: bytes of texts in the records of a job's tasks and the ends of their stderr
SELECT
    (
        SELECT coalesce(sum(
            length(CAST(parameters AS BLOB)) + length(CAST(runtime_constraints AS BLOB))
            + coalesce(length(CAST(command AS BLOB)), 0) + coalesce(length(CAST(output AS BLOB)), 0)
        ), 0)
        FROM task
        WHERE id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295
    ) + (
        SELECT coalesce(sum(length(CAST(l.stderr AS BLOB))), 0)
        FROM attempt AS a JOIN tail AS l ON l.attempt_id = a.id
        WHERE a.task_id BETWEEN :job_id << 32 AND (:job_id << 32) + 4294967295
    );
