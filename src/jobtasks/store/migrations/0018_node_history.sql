-- How much of each node was taken in the last day: a row whenever that had changed since the row before.

CREATE TABLE node_history (
    node_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    slots INTEGER NOT NULL, -- 0: its agent was not heard
    slots_taken INTEGER NOT NULL,
    memory_kib INTEGER NOT NULL,
    memory_taken_kib INTEGER NOT NULL,
    PRIMARY KEY (node_id, at)
) WITHOUT ROWID;

ALTER TABLE manager ADD COLUMN noted_at INTEGER; -- when it was last noted
