-- job_log_add: what happened after a job was over
UPDATE job SET log = concat_ws(chr(10), log, CAST(:line AS TEXT)), modified_at = :now
WHERE uuid = :job_uuid AND state IN ('Complete', 'Failed', 'Cancelled');

-- logs_left_behind: what attempts wrote until now is gone, of every job
UPDATE job SET logs_removed_at = :now,
    has_logs = CASE WHEN state IN ('Complete', 'Failed', 'Cancelled') THEN 0 ELSE 1 END;

-- repeat_put: remember what a POST made; one that is too old to be repeated gives way
INSERT INTO repeat (token_hash, request_id, request_hash, answer, created_at)
VALUES (:token_hash, :request_id, :request_hash, :answer, :now)
ON CONFLICT (token_hash, request_id) DO UPDATE SET
    request_hash = excluded.request_hash, answer = excluded.answer, created_at = excluded.created_at,
    delivered = 0;

-- tokens_over: how many tokens were revoked or ended before a time
SELECT count(*) FROM token
WHERE (revoked_at IS NOT NULL OR expires_at IS NOT NULL)
AND least(coalesce(revoked_at, expires_at), coalesce(expires_at, revoked_at)) <= :before;

-- tokens_sweep: tokens that were revoked or ended before a time
DELETE FROM token WHERE id IN (
    SELECT id FROM token
    WHERE (revoked_at IS NOT NULL OR expires_at IS NOT NULL)
    AND least(coalesce(revoked_at, expires_at), coalesce(expires_at, revoked_at)) <= :before
    LIMIT :limit
);
