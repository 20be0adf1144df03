-- The attempts of a job in the order in which they began, for what reads on where it was. Its job is told
-- by its task's id: with the column job_id this index would be taken for live attempts, too, which have
-- a small one of their own.

CREATE INDEX attempt_began ON attempt (task_id >> 32, id);
