-- arrival_add: a large create begins
INSERT INTO arrival (heard_at) VALUES (:now);

-- arrival_hear: a slice of it comes, unless it was given up
UPDATE arrival SET heard_at = :now WHERE id = :arrival_id;

-- arrival_delete: all of it is there, or nothing more will come: then its rows are swept
DELETE FROM arrival WHERE id = :arrival_id;

-- arrival_heard: when the newest slice of an arrival came
SELECT heard_at FROM arrival WHERE id = :arrival_id;

-- arrival_of_job: the job that arrives as a whole, if one does
SELECT job_id FROM arrival WHERE id = :arrival_id;

-- arrivals_forget: creates and imports of which no slice came for long: their server is gone
DELETE FROM arrival WHERE heard_at < :before RETURNING job_id;

-- batch_await: a batch that belongs to an arrival
UPDATE batch SET arrival_id = :arrival_id WHERE id = :batch_id AND state = 2;

-- batch_arrive: all tasks of a batch are there
UPDATE batch SET state = 0, size = :count, ready = :count, arrival_id = NULL
WHERE id = :batch_id AND state = 2 AND arrival_id = :arrival_id;
