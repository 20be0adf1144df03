-- What is over is kept for a time, and its logs perhaps for less (docs/how-to/retention.md).
ALTER TABLE job ADD COLUMN logs_removed_at INTEGER; -- what attempts had left until then is gone
ALTER TABLE job ADD COLUMN has_logs INTEGER NOT NULL DEFAULT 1; -- 0: it has not run since

-- Both name the same moment in the same words as queries/retention.sql does: when a job was over.
CREATE INDEX job_over ON job (coalesce(finished_at, cancelled_at, modified_at))
WHERE state IN ('Complete', 'Failed', 'Cancelled');
CREATE INDEX job_has_logs ON job (coalesce(finished_at, cancelled_at, modified_at))
WHERE state IN ('Complete', 'Failed', 'Cancelled')
AND has_logs = 1;
CREATE INDEX token_over ON token (min(coalesce(revoked_at, expires_at), coalesce(expires_at, revoked_at)))
WHERE revoked_at IS NOT NULL OR expires_at IS NOT NULL;
