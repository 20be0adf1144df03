-- user_put: a user that must exist
INSERT INTO user (uuid, username, first_name, is_admin, created_at, modified_at)
VALUES (:uuid, :username, :first_name, :is_admin, :now, :now)
ON CONFLICT (uuid) DO NOTHING;

-- user_add: a new user
INSERT INTO user (uuid, username, email, first_name, last_name, is_active, is_admin,
    created_at, modified_at, modified_by_user_uuid)
VALUES (:uuid, :username, :email, :first_name, :last_name, :is_active, :is_admin,
    :now, :now, :changed_by);

-- user_update: what an administrator changes of a user
UPDATE user SET username = :username, email = :email, first_name = :first_name,
    last_name = :last_name, is_active = :is_active, is_admin = :is_admin,
    modified_at = :now, modified_by_user_uuid = :changed_by
WHERE uuid = :uuid;

-- user_by_uuid: a user
SELECT id, uuid, owner_uuid, created_at, modified_at, modified_by_user_uuid, modified_by_client_uuid,
    username, email, first_name, last_name, is_active, is_admin
FROM visible_user WHERE uuid = :uuid;

-- user_named: who has a name
SELECT uuid FROM user WHERE username = :username;
