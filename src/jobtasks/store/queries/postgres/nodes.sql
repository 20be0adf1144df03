-- nodes_keep: these nodes take nothing new until a job has started, all others do (R18)
UPDATE node SET kept_job_id = CASE
    WHEN id IN (SELECT value FROM json_each(:node_ids)) THEN CAST(:job_id AS BIGINT)
END
WHERE kept_job_id IS DISTINCT FROM CASE
    WHEN id IN (SELECT value FROM json_each(:node_ids)) THEN CAST(:job_id AS BIGINT)
END;

-- nodes_succeed: a task completed: its node's streak ends, streaks of its job elsewhere are witnessed
UPDATE node SET
    losing_streak = CASE WHEN id = :node_id THEN '[]' ELSE losing_streak END,
    losing_job_id = CASE WHEN id = :node_id THEN NULL ELSE losing_job_id END,
    losing_witnessed = CASE WHEN id = :node_id THEN 0 ELSE 1 END
WHERE (id = :node_id AND losing_streak <> '[]') OR (losing_job_id = :job_id AND losing_witnessed = 0);

-- node_suspect: a node is held by the manager; what an administrator does to it goes before
UPDATE node SET
    held_seconds = :seconds, held_until = greatest(held_until, :held_until),
    held_reason = CASE WHEN held_by_user_uuid IS NULL THEN :reason ELSE held_reason END,
    losing_streak = '[]', losing_job_id = NULL, losing_witnessed = 0, modified_at = :now
WHERE id = :node_id;

-- nodes_hold_less: no hold of the manager is longer than it was meant to be, after a clock was set back (R16)
UPDATE node SET held_until = :now + trunc(held_seconds * 1000000)::bigint
WHERE held_seconds > 0 AND held_by_user_uuid IS NULL
AND held_until > :now + trunc(held_seconds * 1000000)::bigint;
