-- Failed attempts of a job gathered by what they have in common (core/families.py). Those that ended
-- before this are in none.

CREATE TABLE family (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
    job_id INTEGER NOT NULL,
    name TEXT NOT NULL, -- the same for the same cause, code and message; "others": what has none of its own
    cause TEXT, -- null: of several
    exit_code INTEGER,
    signal INTEGER,
    message TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    tasks INTEGER NOT NULL CHECK (tasks >= 0), -- that failed for good by it, and are failed now
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    sample_attempt_id INTEGER NOT NULL, -- the newest
    sample_message TEXT NOT NULL, -- its own, as it was
    UNIQUE (job_id, name)
);

ALTER TABLE attempt ADD COLUMN family_id INTEGER;
CREATE INDEX attempt_family ON attempt (family_id, id) WHERE family_id IS NOT NULL;
