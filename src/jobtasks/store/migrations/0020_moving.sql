-- Jobs arrive from other servers: by slices, as large creates do. The job's own row is the last to come.
-- Until then what would be tried again has 2 in requeue.due: neither due nor to become so.

ALTER TABLE arrival ADD COLUMN job_id INTEGER; -- of a job that arrives as a whole; null: of tasks alone
ALTER TABLE arrival ADD COLUMN job_uuid TEXT;
