-- The attempts of a job in the order in which they began, for what reads on where it was.

CREATE INDEX attempt_began ON attempt ((task_id >> 32), id);
