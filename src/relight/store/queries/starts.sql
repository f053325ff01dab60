-- add_start: a start is over; one that is told again is there already
INSERT INTO starts (
    workspace, at, worker, app, environment, version, function, binding, node, level, why, phases, seconds, failure, is_ahead
) VALUES (
    :workspace, :at, :worker, :app, :environment, :version, :function, :binding, :node, :level, :why, :phases, :seconds, :failure, :is_ahead
) ON CONFLICT DO NOTHING;

-- starts: starts, newest first
SELECT worker, node, app, environment, version, function, binding, level, why, phases, seconds, at, failure, is_ahead
FROM starts
WHERE workspace = :workspace AND at >= :since AND at < :before
    AND (:app = '' OR app = :app) AND (:environment = '' OR environment = :environment)
    AND (:function = '' OR function = :function) AND (:level = '' OR level = :level)
ORDER BY at DESC, worker DESC LIMIT :limit;

-- forget_starts: drop some of those that were over before a time
DELETE FROM starts WHERE (workspace, at, worker) IN (
    SELECT workspace, at, worker FROM starts WHERE workspace = :workspace AND at < :before ORDER BY at LIMIT :limit
);

-- workspaces: who has starts, found by leaping from one to the next
WITH RECURSIVE known (workspace) AS (
    SELECT min(workspace) FROM starts
    UNION ALL
    SELECT (SELECT min(workspace) FROM starts WHERE workspace > known.workspace) FROM known WHERE workspace IS NOT NULL
)
SELECT workspace FROM known WHERE workspace IS NOT NULL;
