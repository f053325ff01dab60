-- put: a function's workers have crashed once more
INSERT INTO brakes (workspace, version, function, binding, crashes, crashed_at, blocked_until, reason, message)
VALUES (:workspace, :version, :function, :binding, :crashes, :crashed_at, :blocked_until, :reason, :message)
ON CONFLICT (workspace, version, function, binding) DO UPDATE SET crashes = excluded.crashes,
    crashed_at = excluded.crashed_at, blocked_until = excluded.blocked_until, reason = excluded.reason, message = excluded.message;

-- remove: its workers are well again
DELETE FROM brakes WHERE workspace = :workspace AND version = :version AND function = :function AND binding = :binding;

-- forget: crashes that are no part of a loop any more
DELETE FROM brakes WHERE blocked_until < :before;

-- all: every function whose workers crashed last
SELECT workspace, version, function, binding, crashes, crashed_at, blocked_until, reason, message FROM brakes;
