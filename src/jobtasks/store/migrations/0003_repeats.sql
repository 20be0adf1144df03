-- POSTs that may be sent again with their X-Request-Id (R22), kept for minutes.

CREATE TABLE repeat (
    token_hash BLOB NOT NULL,
    request_id TEXT NOT NULL,
    request_hash BLOB NOT NULL, -- of method, address and body
    answer TEXT NOT NULL, -- what it made, JSON
    delivered INTEGER NOT NULL DEFAULT 0, -- its answer is known to have arrived
    created_at INTEGER NOT NULL,
    PRIMARY KEY (token_hash, request_id)
) WITHOUT ROWID;
CREATE INDEX repeat_age ON repeat (created_at);

-- 1: sent one X-Request-Id with two calls, and is not believed to repeat by it ever after
ALTER TABLE token ADD COLUMN shares_ids INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN shares_ids INTEGER NOT NULL DEFAULT 0;
