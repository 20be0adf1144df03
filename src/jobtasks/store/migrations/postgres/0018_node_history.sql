-- How much of each node was taken in the last day: a row whenever that had changed since the row before.

CREATE TABLE node_history (
    node_id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    slots BIGINT NOT NULL,
    slots_taken BIGINT NOT NULL,
    memory_kib BIGINT NOT NULL,
    memory_taken_kib BIGINT NOT NULL,
    PRIMARY KEY (node_id, at)
);

ALTER TABLE manager ADD COLUMN noted_at BIGINT;
