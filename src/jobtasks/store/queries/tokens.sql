-- token_by_hash: who a token speaks for, unless it was revoked
SELECT t.uuid, CASE WHEN t.role = 'agent' THEN 'agent' WHEN u.is_admin = 1 THEN 'admin' ELSE 'user' END,
    t.user_uuid, u.is_active, t.scopes, t.expires_at, t.last_used_at
FROM token AS t
JOIN user AS u ON u.uuid = t.user_uuid
WHERE t.hash = :hash AND t.revoked_at IS NULL;

-- token_put: a token that the state directory names is valid
INSERT INTO token (uuid, hash, role, user_uuid, label, created_at)
VALUES (:uuid, :hash, :role, :user_uuid, :label, :now)
ON CONFLICT (hash) DO NOTHING;

-- token_add: a new token of a user
INSERT INTO token (uuid, hash, role, user_uuid, scopes, label, created_at, expires_at)
VALUES (:uuid, :hash, 'user', :user_uuid, :scopes, :label, :now, :expires_at);

-- token_by_uuid: a token that was not revoked
SELECT id, uuid, owner_uuid, created_at, modified_at, modified_by_user_uuid, modified_by_client_uuid,
    api_token, scopes, label, expires_at, last_used_at, role
FROM visible_token WHERE uuid = :uuid;

-- token_revoke: a token speaks for nobody from now on
UPDATE token SET revoked_at = :now WHERE uuid = :uuid AND revoked_at IS NULL;

-- token_used: a token was used, unless that is known of the last minute
UPDATE token SET last_used_at = :now
WHERE uuid = :uuid AND (last_used_at IS NULL OR last_used_at <= :before);

-- meta_put: a fact about this database, when it is not yet known
INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO NOTHING;

-- meta_value: a fact about this database
SELECT value FROM meta WHERE key = :key;

-- manager_standing: who manages, in which term, and what changes whenever it renews
SELECT term, holder, held_until FROM manager;

-- manager_yield: the manager ends in good order: another need not wait
UPDATE manager SET held_until = 0 WHERE id = 1 AND term = :term;

-- manager_take: a manager takes over; its term is higher than any before
INSERT INTO manager (id, term, holder, held_until) VALUES (1, 1, :holder, :held_until)
ON CONFLICT (id) DO UPDATE SET term = manager.term + 1, holder = excluded.holder, held_until = excluded.held_until
RETURNING term;

-- manager_renew: the manager goes on, if its term is still the highest
UPDATE manager SET held_until = :held_until WHERE id = 1 AND term = :term;

-- token_renew: give a token another secret, the first one being lost
UPDATE token SET hash = :hash WHERE uuid = :uuid AND revoked_at IS NULL;
