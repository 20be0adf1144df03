-- Whom to tell that a job is over: written by the transaction that ends it, gone when delivered.
CREATE TABLE notice (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
    uuid TEXT NOT NULL UNIQUE, -- the same in every try, so that receivers can drop repeats
    job_uuid TEXT NOT NULL,
    target TEXT NOT NULL, -- core/notifying.py
    body TEXT NOT NULL, -- the job as it ended, JSON
    created_at INTEGER NOT NULL,
    not_before INTEGER NOT NULL, -- while it is being delivered: when to believe that nobody does
    tries INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX notice_due ON notice (not_before);
