-- The same is checked of each written row, cheaper: for a list of more than two SQLite makes a table anew, each time.

-- Other connections read the schema again when its version has grown.
CREATE TABLE grown (id INTEGER);
DROP TABLE grown;
PRAGMA writable_schema = ON;

UPDATE sqlite_schema SET sql = replace(
    replace(
        replace(sql, 'CHECK (state IN (0, 1, 2, 3))', 'CHECK (state BETWEEN 0 AND 3)'),
        'CHECK (state IN (0, 1, 2))', 'CHECK (state BETWEEN 0 AND 2)'
    ),
    'CHECK (state IN (''Queued'', ''Running'', ''Complete'', ''Failed'', ''Cancelled''))',
    'CHECK (state IN (''Queued'', ''Running'') OR state IN (''Complete'', ''Failed'') OR state = ''Cancelled'')'
)
WHERE type = 'table' AND name IN ('task', 'attempt', 'batch', 'seat', 'job');

PRAGMA writable_schema = RESET;
