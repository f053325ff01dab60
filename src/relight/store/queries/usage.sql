-- add_usage: what a worker used in one stretch; no row: that is there already, or its last one is
INSERT INTO usage (workspace, worker, n, node, app, environment, version, function, binding, kind, since_us, until_us, times,
    cpu_millis, memory_mib, gpus, gpu_micros, calls, cpu_us, egress_bytes, tokens_in, tokens_out, tags, is_last)
SELECT :workspace, :worker, :n, :node, :app, :environment, :version, :function, :binding, :kind, :since_us, :until_us, :times,
    :cpu_millis, :memory_mib, :gpus, :gpu_micros, :calls, :cpu_us, :egress_bytes, :tokens_in, :tokens_out, :tags, :is_last
WHERE NOT EXISTS (SELECT 1 FROM usage WHERE workspace = :workspace AND worker = :worker AND (n >= :n OR is_last = 1))
RETURNING n;

-- usage_before: all that a worker used before one of its stretches
SELECT times, calls, coalesce(egress_bytes, 0), tokens_in, tokens_out FROM usage WHERE workspace = :workspace AND worker = :worker AND n < :n ORDER BY n;

-- last_usage: the newest stretch of a worker
SELECT n, until_us, is_last FROM usage WHERE workspace = :workspace AND worker = :worker ORDER BY n DESC LIMIT 1;

-- add_posting: what a stretch cost; one that is there stays
INSERT INTO postings (workspace, worker, n, until_us, card, nanos, billed_us)
VALUES (:workspace, :worker, :n, :until_us, :card, :nanos, :billed_us);

-- correct: one more posting of a stretch, of so much more or less
INSERT INTO postings (workspace, worker, n, correction, until_us, card, nanos, billed_us, reason)
SELECT workspace, worker, n, 1 + max(correction), until_us, :card, :nanos, 0, :reason
FROM postings WHERE workspace = :workspace AND worker = :worker AND n = :n GROUP BY workspace, worker, n, until_us RETURNING correction;

-- ledger: every stretch with what it cost and the tags of its version, oldest first: one row for each posting
SELECT u.worker, u.n, u.node, u.app, u.environment, u.version, u.function, u.binding, u.kind, u.since_us, u.until_us, u.times,
    u.cpu_millis, u.memory_mib, u.gpus, u.gpu_micros, u.calls, u.cpu_us, u.egress_bytes, u.tokens_in, u.tokens_out, u.tags,
    coalesce(v.tags, '{}'), u.is_last, p.correction, p.card, p.nanos, p.billed_us, p.reason
FROM usage AS u INDEXED BY usage_by_time JOIN postings AS p ON p.workspace = u.workspace AND p.worker = u.worker AND p.n = u.n
LEFT JOIN versions AS v ON v.workspace = u.workspace AND v.id = u.version
WHERE u.workspace = :workspace AND u.until_us > :since_us AND u.until_us <= :until_us
    AND (:app = '' OR u.app = :app) AND (:environment = '' OR u.environment = :environment)
    AND (:function = '' OR u.function = :function)
ORDER BY u.until_us, u.worker, u.n, p.correction;

-- spent: what was posted from a time on, how many of the postings have no price, and when the first of it was used (0: never)
SELECT coalesce(sum(nanos), 0), coalesce(sum(nanos IS NULL), 0), coalesce(min(u.since_us), 0) FROM usage AS u INDEXED BY usage_by_time
JOIN postings AS p ON p.workspace = u.workspace AND p.worker = u.worker AND p.n = u.n
WHERE u.workspace = :workspace AND u.until_us > :since_us AND (:app = '' OR u.app = :app)
    AND (:environment = '' OR u.environment = :environment) AND (:function = '' OR u.function = :function);

-- used_calls: the calls that had some of a worker's time, newest first
SELECT id, app, environment, version, function, binding, worker, used_us, tokens_in, tokens_out, ended_at FROM calls INDEXED BY calls_by_end
WHERE sequence > 0 AND workspace = :workspace AND used_us > 0 AND ended_at > :since AND ended_at <= :until
    AND (:app = '' OR app = :app) AND (:environment = '' OR environment = :environment)
    AND (:function = '' OR function = :function) AND (:call = '' OR id = :call)
ORDER BY sequence DESC LIMIT :limit;
