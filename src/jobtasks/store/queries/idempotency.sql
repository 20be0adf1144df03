-- idempotency_get: what an earlier create with this key made
SELECT body_hash, answer FROM idempotency WHERE holder = :holder AND key = :key;

-- idempotency_put: remember what a create made
INSERT INTO idempotency (holder, key, body_hash, answer, created_at)
VALUES (:holder, :key, :body_hash, :answer, :now);

-- idempotency_sweep: keys that are too old to be repeated
DELETE FROM idempotency WHERE (holder, key) IN (
    SELECT holder, key FROM idempotency WHERE created_at < :before ORDER BY created_at LIMIT :limit
);

-- task_uuids: uuids of tasks that arrived together
SELECT uuid FROM task WHERE id BETWEEN :first_id AND :last_id ORDER BY id;
