-- history_due: it is time to note how much of each node is taken; also after a clock was set back
UPDATE manager SET noted_at = :now
WHERE id = 1 AND (noted_at IS NULL OR noted_at <= :before OR noted_at > :now);

-- history_note: how much of each node is taken, where that has changed
INSERT INTO node_history (node_id, at, slots, slots_taken, memory_kib, memory_taken_kib)
SELECT f.node_id, :now, f.slots, f.slots_taken, f.memory_kib, f.memory_taken_kib
FROM (
    SELECT n.id AS node_id, n.slots * coalesce(a.live, 0) AS slots,
        CASE WHEN u.slots_taken > n.slots THEN n.slots ELSE u.slots_taken END * coalesce(a.live, 0)
            AS slots_taken,
        n.memory_kib * coalesce(a.live, 0) AS memory_kib,
        u.reserved_kib * coalesce(a.live, 0) AS memory_taken_kib
    FROM node AS n JOIN node_use AS u ON u.node_id = n.id LEFT JOIN agent AS a ON a.id = n.agent_id
    WHERE n.deleted_at IS NULL
) AS f
LEFT JOIN node_history AS h ON h.node_id = f.node_id
    AND h.at = (SELECT max(l.at) FROM node_history AS l WHERE l.node_id = f.node_id)
WHERE h.node_id IS NULL OR h.slots <> f.slots OR h.slots_taken <> f.slots_taken
    OR h.memory_kib <> f.memory_kib OR h.memory_taken_kib <> f.memory_taken_kib
ON CONFLICT (node_id, at) DO NOTHING;

-- history_forget: what was so before a time, but for what was so at that time
DELETE FROM node_history
WHERE node_id IN (SELECT id FROM node) AND at < :before
AND EXISTS (
    SELECT 1 FROM node_history AS l
    WHERE l.node_id = node_history.node_id AND l.at > node_history.at AND l.at <= :before
);

-- history_of_nodes: how much of these nodes was taken when, the last row of each step of time
SELECT h.node_id, h.at, h.slots, h.slots_taken, h.memory_kib, h.memory_taken_kib
FROM (
    SELECT node_id, max(at) AS at FROM node_history
    WHERE node_id IN (SELECT value FROM json_each(:node_ids))
    GROUP BY node_id, at / :step
) AS w
JOIN node_history AS h ON h.node_id = w.node_id AND h.at = w.at
ORDER BY h.node_id, h.at;
