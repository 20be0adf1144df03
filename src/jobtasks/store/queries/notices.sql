-- notice_add: somebody is to be told that a job is over
INSERT INTO notice (uuid, job_uuid, target, body, created_at, not_before)
VALUES (:uuid, :job_uuid, :target, :body, :now, :now);

-- notice_due: the notice to deliver next, none of targets that have enough under way
SELECT id, uuid, job_uuid, target, body, created_at, tries FROM notice
WHERE not_before <= :now AND target NOT IN (SELECT value FROM json_each(:busy))
ORDER BY not_before, id LIMIT 1;

-- notice_take: somebody delivers it
UPDATE notice SET tries = tries + 1, not_before = :not_before WHERE id = :id AND tries = :tries;

-- notice_later: it could not be delivered
UPDATE notice SET not_before = :not_before WHERE id = :id AND tries = :tries;

-- notice_remove: it was delivered, or given up
DELETE FROM notice WHERE id = :id AND tries = :tries;

-- notices_release: who delivered them is gone
UPDATE notice SET not_before = :now WHERE tries > 0 AND not_before > :now;

-- notice_next: when the next notice is due
SELECT min(not_before) FROM notice WHERE target NOT IN (SELECT value FROM json_each(:busy));

-- notices_waiting: how many notices were not delivered yet
SELECT count(*) FROM notice;

-- job_log_add: what happened after a job was over
UPDATE job SET log = CASE WHEN log IS NULL THEN :line ELSE log || char(10) || :line END, modified_at = :now
WHERE uuid = :job_uuid AND state IN ('Complete', 'Failed', 'Cancelled');
