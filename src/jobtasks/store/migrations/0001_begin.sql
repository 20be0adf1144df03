-- The first schema. Times are Unix microseconds (UTC), sizes KiB where the name says so, JSON is text.
-- A task's id is job_id * 2^32 + qsequence: rows of a job lie together in order of arrival, and the
-- primary key itself keeps qsequence unique (R6). Words for states stand in core/states.py.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE user (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    username TEXT NOT NULL UNIQUE,
    email TEXT,
    first_name TEXT,
    last_name TEXT,
    is_active INTEGER NOT NULL DEFAULT 1, -- 0: may only read
    is_admin INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    modified_by_user_uuid TEXT
);

-- Tokens of people and agents; an attempt's token lives and dies with its attempt row.
CREATE TABLE token (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    hash BLOB NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('user', 'agent')), -- what a user's may do follows the user
    user_uuid TEXT NOT NULL,
    scopes TEXT NOT NULL DEFAULT '["all"]',
    label TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    last_used_at INTEGER -- to the minute
);
CREATE INDEX token_user ON token (user_uuid, id);

CREATE TABLE manager (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    term INTEGER NOT NULL,
    holder TEXT NOT NULL,
    held_until INTEGER NOT NULL
);

CREATE TABLE node (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    lasting_id TEXT NOT NULL UNIQUE,
    hostname TEXT NOT NULL,
    engine TEXT NOT NULL DEFAULT 'local',
    slots INTEGER NOT NULL,
    memory_kib INTEGER NOT NULL,
    cores INTEGER NOT NULL,
    scratch_mb INTEGER NOT NULL,
    agent_id INTEGER,
    job_id INTEGER, -- of a batch allocation: the only job it serves (R18)
    draining INTEGER NOT NULL DEFAULT 0,
    held_until INTEGER,
    held_seconds REAL NOT NULL DEFAULT 0,
    held_reason TEXT,
    losing_streak TEXT NOT NULL DEFAULT '[]', -- attempts in a row that ended in temporary failures (R16)
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL
);

CREATE TABLE agent (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
    node_id INTEGER NOT NULL,
    incarnation TEXT NOT NULL,
    live INTEGER NOT NULL DEFAULT 1,
    sync_number INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL,
    joined_at INTEGER NOT NULL,
    gone_at INTEGER
);
CREATE INDEX agent_live ON agent (lease_until) WHERE live = 1;

CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
    uuid TEXT NOT NULL UNIQUE,
    owner_uuid TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    modified_by_user_uuid TEXT,
    modified_by_client_uuid TEXT,
    state TEXT NOT NULL CHECK (state IN ('Queued', 'Running', 'Complete', 'Failed', 'Cancelled')),
    managed INTEGER NOT NULL DEFAULT 1, -- 0: a foreign job (R7b)
    priority INTEGER NOT NULL DEFAULT 0,
    submit_id TEXT, -- once per user: idempotency keeps them for ever (R22)
    script TEXT,
    script_version TEXT,
    supplied_script_version TEXT,
    repository TEXT,
    script_parameters TEXT NOT NULL DEFAULT '{}',
    command TEXT,
    runtime_constraints TEXT NOT NULL DEFAULT '{}', -- as given
    started_at INTEGER,
    finished_at INTEGER,
    cancelled_at INTEGER,
    cancelled_by_user_uuid TEXT,
    cancelled_by_client_uuid TEXT,
    is_locked_by_uuid TEXT,
    output TEXT,
    output_truncated INTEGER NOT NULL DEFAULT 0,
    log TEXT,
    description TEXT,
    nondeterministic INTEGER,
    components TEXT NOT NULL DEFAULT '{}',
    arvados_sdk_version TEXT,
    docker_image_locator TEXT,
    seeded INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX job_queued ON job (id) WHERE state = 'Queued' AND managed = 1;
CREATE INDEX job_owner ON job (owner_uuid, id);
CREATE INDEX job_state ON job (state, id);

-- What changes with every task of a job, kept apart so that these writes stay small.
CREATE TABLE tally (
    job_id INTEGER PRIMARY KEY,
    next_qsequence INTEGER NOT NULL DEFAULT 0,
    shapes INTEGER NOT NULL DEFAULT 0,
    todo INTEGER NOT NULL DEFAULT 0 CHECK (todo >= 0),
    running INTEGER NOT NULL DEFAULT 0 CHECK (running >= 0),
    done INTEGER NOT NULL DEFAULT 0 CHECK (done >= 0),
    failed INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
    live INTEGER NOT NULL DEFAULT 0 CHECK (live >= 0), -- attempts that may still have a process
    halt TEXT CHECK (halt IN ('finish', 'cancel')), -- a permanent failure stopped new starts (R19)
    frontier INTEGER -- the sequence whose lanes are live; null: nothing may start
);

-- Tasks per sequence: the frontier is read here and never counted (R5).
CREATE TABLE level (
    job_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    todo INTEGER NOT NULL DEFAULT 0 CHECK (todo >= 0),
    running INTEGER NOT NULL DEFAULT 0 CHECK (running >= 0),
    done INTEGER NOT NULL DEFAULT 0 CHECK (done >= 0),
    failed INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
    PRIMARY KEY (job_id, sequence)
) WITHOUT ROWID;
CREATE INDEX level_open ON level (job_id, sequence) WHERE todo + running + failed > 0;

-- A distinct set of effective constraints (core/constraints.py, Needs), shared by all jobs.
CREATE TABLE shape (
    id INTEGER PRIMARY KEY,
    needs TEXT NOT NULL UNIQUE
);

-- Tasks of one job, sequence and shape that could start now were a node free; live at the frontier.
CREATE TABLE lane (
    job_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    shape_id INTEGER NOT NULL,
    ready INTEGER NOT NULL DEFAULT 0 CHECK (ready >= 0),
    live INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job_id, sequence, shape_id)
) WITHOUT ROWID;
CREATE INDEX lane_live ON lane (shape_id, job_id) WHERE live = 1 AND ready > 0;

-- What one attempt created in one sequence with one shape; published or deleted as a whole (R3, R4).
CREATE TABLE batch (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
    job_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    own TEXT NOT NULL DEFAULT '{}', -- the tasks' own constraints, normalised
    shape_id INTEGER NOT NULL, -- follows from own and the job's constraints
    creator_task_id INTEGER,
    creator_attempt_id INTEGER,
    state INTEGER NOT NULL CHECK (state IN (0, 1, 2)), -- latent, published, dead
    size INTEGER NOT NULL CHECK (size >= 0),
    ready INTEGER NOT NULL CHECK (ready >= 0), -- tasks that were never claimed
    head INTEGER NOT NULL -- id of the first task that was never claimed
);
CREATE INDEX batch_latent ON batch (creator_attempt_id, sequence) WHERE state = 0;
CREATE INDEX batch_head ON batch (job_id, sequence, shape_id, head) WHERE state = 1 AND ready > 0;
CREATE INDEX batch_dead ON batch (id) WHERE state = 2;
CREATE INDEX batch_creator ON batch (creator_task_id) WHERE creator_task_id IS NOT NULL;
CREATE INDEX batch_job ON batch (job_id, shape_id);

CREATE TABLE task (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    batch_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2, 3)), -- waiting, running, complete, failed
    parameters TEXT NOT NULL DEFAULT '{}',
    runtime_constraints TEXT NOT NULL DEFAULT '{}',
    command TEXT,
    progress REAL,
    success INTEGER,
    output TEXT,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    attempt_id INTEGER, -- the newest attempt
    failed_count INTEGER NOT NULL DEFAULT 0,
    failed_at INTEGER,
    failed_attempt_id INTEGER, -- its tail is failed_log
    spent TEXT, -- budgets used since the last retry of the job (core/retry.py, Spent)
    CHECK ((failed_count = 0) = (failed_at IS NULL))
);
CREATE INDEX task_batch ON task (batch_id);
CREATE INDEX task_output ON task (id >> 32, sequence, id) WHERE output IS NOT NULL;
CREATE INDEX task_unwell ON task (id >> 32, state, id) WHERE state = 3 OR failed_count > 0;

-- Tasks that wait for another attempt; few beside the tasks of a job.
CREATE TABLE requeue (
    task_id INTEGER PRIMARY KEY,
    job_id INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    shape_id INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    due INTEGER NOT NULL DEFAULT 0,
    avoid TEXT, -- ids of the nodes on which it failed
    avoid_until INTEGER -- from then on any node will do (R12)
);
CREATE INDEX requeue_due ON requeue (job_id, sequence, shape_id, task_id) WHERE due = 1;
CREATE INDEX requeue_wait ON requeue (not_before) WHERE due = 0;
CREATE INDEX requeue_avoiding ON requeue (avoid_until) WHERE avoid IS NOT NULL;

CREATE TABLE attempt (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
    task_id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    node_id INTEGER NOT NULL,
    agent_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    shape_id INTEGER NOT NULL,
    memory_kib INTEGER NOT NULL DEFAULT 0,
    state INTEGER NOT NULL CHECK (state IN (0, 1, 2, 3)), -- assigned, running, stopping, ended
    token_hash BLOB NOT NULL,
    children INTEGER NOT NULL DEFAULT 0, -- batches it created
    stop TEXT, -- why it is to be stopped
    missing_since INTEGER, -- not named by its agent since
    assigned_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    cause TEXT,
    exit_code INTEGER,
    signal INTEGER,
    peak_memory_kib INTEGER,
    run_seconds REAL,
    reason TEXT,
    counted INTEGER NOT NULL DEFAULT 0, -- used a budget (R14)
    log_bytes INTEGER NOT NULL DEFAULT 0,
    log_dropped_bytes INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX attempt_task ON attempt (task_id, number);
CREATE INDEX attempt_node_live ON attempt (node_id) WHERE state < 3;
CREATE INDEX attempt_job_live ON attempt (job_id, node_id) WHERE state < 3;

-- Further nodes of a gang (R25).
CREATE TABLE seat (
    attempt_id INTEGER NOT NULL,
    node_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    PRIMARY KEY (attempt_id, node_id)
) WITHOUT ROWID;

-- The end of an attempt's stderr, at most 64 KiB (R13).
CREATE TABLE tail (
    attempt_id INTEGER PRIMARY KEY,
    stderr TEXT NOT NULL
);

-- What creates made that carried an Idempotency-Key or a submit_id (R22).
CREATE TABLE idempotency (
    holder TEXT NOT NULL,
    key TEXT NOT NULL,
    body_hash BLOB NOT NULL,
    answer TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (holder, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at);

-- A task as readers see it: children of a failed attempt do not exist, also before they are swept.
CREATE VIEW visible_task AS
SELECT
    t.id AS id,
    t.uuid AS uuid,
    t.id >> 32 AS job_id,
    t.id & 4294967295 AS qsequence,
    t.batch_id AS batch_id,
    t.sequence AS sequence,
    t.state AS state,
    t.parameters AS parameters,
    t.runtime_constraints AS runtime_constraints,
    t.command AS command,
    t.progress AS progress,
    t.success AS success,
    t.output AS output,
    t.created_at AS created_at,
    t.modified_at AS modified_at,
    t.started_at AS started_at,
    t.finished_at AS finished_at,
    t.attempts AS attempts,
    t.attempt_id AS attempt_id,
    t.failed_count AS failed_count,
    t.failed_at AS failed_at,
    failed_tail.stderr AS failed_log,
    newest_tail.stderr AS log,
    b.state AS batch_state,
    b.shape_id AS shape_id,
    b.creator_attempt_id AS creator_attempt_id,
    creator.uuid AS created_by_job_task_uuid,
    j.uuid AS job_uuid,
    j.owner_uuid AS owner_uuid,
    j.modified_by_user_uuid AS modified_by_user_uuid,
    j.modified_by_client_uuid AS modified_by_client_uuid
FROM task AS t
JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
JOIN job AS j ON j.id = t.id >> 32
LEFT JOIN task AS creator ON creator.id = b.creator_task_id
LEFT JOIN tail AS failed_tail ON failed_tail.attempt_id = t.failed_attempt_id
LEFT JOIN tail AS newest_tail ON newest_tail.attempt_id = t.attempt_id;

-- A job as readers see it.
CREATE VIEW visible_job AS
SELECT
    j.*,
    y.todo AS todo,
    y.running AS running_tasks,
    y.done AS done,
    y.failed AS failed,
    y.live AS live,
    y.halt AS halt,
    y.frontier AS frontier
FROM job AS j
JOIN tally AS y ON y.job_id = j.id;

-- A user as readers see it; every user belongs to the root user, as at every Arvados site.
CREATE VIEW visible_user AS
SELECT
    u.id AS id,
    u.uuid AS uuid,
    substr(u.uuid, 1, 5) || '-tpzed-000000000000000' AS owner_uuid,
    u.created_at AS created_at,
    u.modified_at AS modified_at,
    u.modified_by_user_uuid AS modified_by_user_uuid,
    NULL AS modified_by_client_uuid,
    u.username AS username,
    u.email AS email,
    u.first_name AS first_name,
    u.last_name AS last_name,
    u.is_active AS is_active,
    u.is_admin AS is_admin
FROM user AS u;

-- A token as readers see it: its secret is not kept, and one that was revoked is gone.
CREATE VIEW visible_token AS
SELECT
    t.id AS id,
    t.uuid AS uuid,
    t.user_uuid AS owner_uuid,
    t.created_at AS created_at,
    t.created_at AS modified_at,
    NULL AS modified_by_user_uuid,
    NULL AS modified_by_client_uuid,
    NULL AS api_token,
    t.scopes AS scopes,
    t.label AS label,
    t.expires_at AS expires_at,
    t.last_used_at AS last_used_at,
    CASE WHEN t.role = 'agent' THEN 'agent' WHEN u.is_admin THEN 'admin' ELSE 'user' END AS role
FROM token AS t
JOIN user AS u ON u.uuid = t.user_uuid
WHERE t.revoked_at IS NULL;
