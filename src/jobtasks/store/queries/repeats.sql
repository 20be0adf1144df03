-- repeat_get: what an earlier POST with this token and id made
SELECT request_hash, created_at, delivered, answer FROM repeat
WHERE token_hash = :token_hash AND request_id = :request_id;

-- repeat_put: remember what a POST made; one that is too old to be repeated gives way
INSERT OR REPLACE INTO repeat (token_hash, request_id, request_hash, answer, created_at)
VALUES (:token_hash, :request_id, :request_hash, :answer, :now);

-- repeat_delivered: its answer has arrived
UPDATE repeat SET delivered = 1 WHERE token_hash = :token_hash AND request_id = :request_id;

-- repeat_sweep: POSTs that are too old to be repeated
DELETE FROM repeat WHERE (token_hash, request_id) IN (
    SELECT token_hash, request_id FROM repeat
    WHERE created_at < :before ORDER BY created_at LIMIT :limit
);

-- attempt_shares_ids: whether an attempt gave one X-Request-Id to two calls
SELECT shares_ids FROM attempt WHERE id = :attempt_id;

-- attempt_distrust_ids: it did
UPDATE attempt SET shares_ids = 1 WHERE id = :attempt_id;

-- token_shares_ids: whether a token was sent with one X-Request-Id for two calls
SELECT shares_ids FROM token WHERE uuid = :uuid;

-- token_distrust_ids: it was
UPDATE token SET shares_ids = 1 WHERE uuid = :uuid;
