-- What engines are asked for: requests for nodes, and the nodes that joined by them (core/requests.py).

CREATE TABLE engine_request (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
    name TEXT NOT NULL UNIQUE, -- by which the engine's own record is known again
    engine TEXT NOT NULL,
    job_id INTEGER, -- null: its node serves all jobs (R18)
    ask TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('wanted', 'unknown', 'asked', 'granted', 'over')),
    engine_id TEXT, -- as the engine calls it
    word TEXT, -- the engine's own word for its state
    reason TEXT,
    places TEXT NOT NULL DEFAULT '[]', -- the nodes that it has, the one that carries the others first
    joined INTEGER NOT NULL DEFAULT 0, -- nodes that have ever joined by it
    ending TEXT, -- why the engine is to end it
    created_at INTEGER NOT NULL,
    asked_at INTEGER, -- when the engine was asked last
    granted_at INTEGER,
    ends_at INTEGER, -- when the engine takes its nodes back
    over_at INTEGER
);
CREATE INDEX engine_request_open ON engine_request (job_id, id) WHERE state <> 'over';
CREATE INDEX engine_request_job ON engine_request (job_id, id);

ALTER TABLE node ADD COLUMN request_id INTEGER; -- null: somebody started its agent
ALTER TABLE node ADD COLUMN place TEXT; -- as its engine names it
ALTER TABLE node ADD COLUMN idle_since INTEGER; -- since when nothing has run there, as the manager saw it
ALTER TABLE node ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0; -- 1: drained to be given back; 2: its agent is sent away
ALTER TABLE node ADD COLUMN lost_at INTEGER; -- when its agent was lost that had not been sent away
CREATE INDEX node_job ON node (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX node_request ON node (request_id) WHERE request_id IS NOT NULL;
