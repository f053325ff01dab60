-- take: a key stands for a call from now on, unless it stands for one that is younger than `expired`
INSERT INTO call_keys (workspace, owner, function, key, call, digest, at)
VALUES (:workspace, :owner, :function, :key, :call, :digest, :at)
ON CONFLICT (workspace, owner, function, key) DO UPDATE SET call = :call, digest = :digest, at = :at WHERE at <= :expired;

-- named: what a key stands for
SELECT call, digest FROM call_keys
WHERE workspace = :workspace AND owner = :owner AND function = :function AND key = :key AND at > :expired;

-- forget_keys: drop some of those that are older than a time
DELETE FROM call_keys WHERE (workspace, owner, function, key) IN (
    SELECT workspace, owner, function, key FROM call_keys WHERE at <= :expired ORDER BY at LIMIT :limit
);
