-- agents_live: agents that are believed to live, with their nodes
SELECT id, node_id FROM agent WHERE live = 1;

-- ids_begun: a table whose ids have not begun counts from 0
INSERT INTO sqlite_sequence (name, seq)
SELECT :name, 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = :name);

-- ids_leap: ids of a table go on above a floor
UPDATE sqlite_sequence SET seq = max(seq, :floor) WHERE name = :name;

-- logs_left_behind: what attempts wrote until now is gone, of every job
UPDATE job SET logs_removed_at = :now, has_logs = (state NOT IN ('Complete', 'Failed', 'Cancelled'));
