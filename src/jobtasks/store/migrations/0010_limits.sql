-- What limits of a job and of a task are compared with (R40).

ALTER TABLE tally ADD COLUMN log_bytes INTEGER NOT NULL DEFAULT 0; -- of attempts that have ended
