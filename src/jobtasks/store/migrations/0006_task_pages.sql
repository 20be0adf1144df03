-- Pages of a large job's tasks: by level, and of those that failed. Both cost nothing once a task was
-- created, but for tasks that write success=false.

CREATE INDEX task_level ON task (id >> 32, sequence);
CREATE INDEX task_denied ON task (id >> 32) WHERE success = 0;
