-- token_by_hash: who a token speaks for
SELECT role, user_uuid, expires_at, revoked_at FROM token WHERE hash = :hash;

-- token_put: a token that the state directory names is valid
INSERT INTO token (uuid, hash, role, user_uuid, label, created_at)
VALUES (:uuid, :hash, :role, :user_uuid, :label, :now)
ON CONFLICT (hash) DO NOTHING;

-- user_put: a user that must exist
INSERT INTO user (uuid, username, full_name, is_admin, created_at, modified_at)
VALUES (:uuid, :username, :full_name, :is_admin, :now, :now)
ON CONFLICT (uuid) DO NOTHING;

-- meta_get: a fact about this database
SELECT value FROM meta WHERE key = :key;

-- meta_put: a fact about this database, when it is not yet known
INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO NOTHING;

-- manager_take: a manager takes over; its term is higher than any before
INSERT INTO manager (id, term, holder, held_until) VALUES (1, 1, :holder, :held_until)
ON CONFLICT (id) DO UPDATE SET term = term + 1, holder = excluded.holder, held_until = excluded.held_until
RETURNING term;

-- manager_renew: the manager goes on, if its term is still the highest
UPDATE manager SET held_until = :held_until WHERE id = 1 AND term = :term;
