-- Which sequences' tasks created which sequences' tasks, counted as their creators complete.

ALTER TABLE batch ADD COLUMN creator_sequence BIGINT;
UPDATE batch SET creator_sequence = (SELECT t.sequence FROM task AS t WHERE t.id = batch.creator_task_id)
WHERE creator_task_id IS NOT NULL;

CREATE TABLE lineage (
    job_id BIGINT NOT NULL,
    creator_sequence BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    tasks BIGINT NOT NULL CHECK (tasks >= 0),
    creators BIGINT NOT NULL,
    PRIMARY KEY (job_id, creator_sequence, sequence)
) WITH (fillfactor = 50);
INSERT INTO lineage (job_id, creator_sequence, sequence, tasks, creators)
SELECT b.job_id, coalesce(b.creator_sequence, -1), b.sequence, sum(b.size), count(DISTINCT b.creator_task_id)
FROM batch AS b JOIN job AS j ON j.id = b.job_id AND j.managed = 1
WHERE b.state = 1
GROUP BY b.job_id, coalesce(b.creator_sequence, -1), b.sequence;
