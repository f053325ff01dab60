-- submit: keep a call; one whose id is there stays as it is
INSERT INTO calls (workspace, id, app, environment, version, function, method, state, in_group, parent, is_awaited, binding, session, is_strict, accept, submitted_at, payload_blob, payload, priority, order_key, expires_at, is_beyond)
VALUES (:workspace, :id, :app, :environment, :version, :function, :method, 'queued', :in_group, :parent, :is_awaited, :binding, :session, :is_strict, :accept, :submitted_at, :payload_blob, :payload, :priority, :order_key, :expires_at, :is_beyond)
ON CONFLICT (workspace, id) DO NOTHING;

-- submit_ended: a call whose end came before it was kept, as one row; no row: its id was used before
INSERT INTO calls (workspace, id, app, environment, version, function, method, state, in_group, parent, is_awaited, binding, session, is_strict, accept, submitted_at, payload_blob, payload, priority, order_key, expires_at,
    attempts, token_epoch, token_n, worker, node, not_before, started_at, ended_at, sequence, result, result_blob, failure, items, used_us, tokens_in, tokens_out)
VALUES (:workspace, :id, :app, :environment, :version, :function, :method, :state, :in_group, :parent, :is_awaited, :binding, :session, :is_strict, :accept, :submitted_at, :payload_blob, :payload, :priority, :order_key, :expires_at,
    :charged, :epoch, :n, :worker, :node, :not_before, :claimed_at, :ended_at, :sequence, :result, :result_blob, :failure, :items, :used_us, :tokens_in, :tokens_out)
ON CONFLICT (workspace, id) DO NOTHING;

-- supersede_attempt: a try that nobody ended is over, because a newer token has the call
INSERT INTO attempts (workspace, call, token_epoch, token_n, number, worker, node, started_at, ended_at, outcome, detail)
SELECT workspace, id, token_epoch, token_n, attempts + 1, worker, node, started_at, :at, 'lease_lost', 'another worker has the call'
FROM calls WHERE workspace = :workspace AND id = :call AND state = 'running' AND (token_epoch, token_n) < (:epoch, :n);

-- claim: a call is in a worker's hands, unless a newer token has it or it has ended
UPDATE calls SET state = 'running', token_epoch = :epoch, token_n = :n, worker = :worker, node = :node, started_at = :at
WHERE workspace = :workspace AND id = :call AND sequence = 0 AND (token_epoch, token_n) < (:epoch, :n);

-- end: an attempt ends the call, or sends it back, whether its claim was kept before or is by this; no row: its token is not the newest
UPDATE calls SET state = :state, attempts = attempts + :charged, not_before = :not_before, ended_at = :ended_at,
    token_epoch = :epoch, token_n = :n, worker = :worker, node = :node,
    started_at = CASE WHEN token_epoch = :epoch AND token_n = :n THEN started_at ELSE :claimed_at END,
    sequence = :sequence, result = :result, result_blob = :result_blob, failure = :failure, items = :items, used_us = used_us + :used_us,
    tokens_in = tokens_in + :tokens_in, tokens_out = tokens_out + :tokens_out
WHERE workspace = :workspace AND id = :call AND sequence = 0
    AND ((token_epoch, token_n) < (:epoch, :n) OR (state = 'running' AND token_epoch = :epoch AND token_n = :n))
RETURNING workspace, id, app, environment, version, function, method, state, attempts, worker, in_group, parent, binding, submitted_at, started_at, ended_at, sequence, NULL, NULL, items;

-- keep_attempt: a try sent its call back; one that ended it is said by the call itself
INSERT INTO attempts (workspace, call, token_epoch, token_n, number, worker, node, started_at, ended_at, outcome, detail)
VALUES (:workspace, :call, :epoch, :n, :attempt, :worker, :node, :started_at, :at, :outcome, :detail);

-- end_queued: a call ends that nobody runs; no row: somebody does, or it has ended
UPDATE calls SET state = :state, ended_at = :at, sequence = :sequence, failure = :failure, is_beyond = 0
WHERE workspace = :workspace AND id = :call AND state = 'queued'
RETURNING workspace, id, app, environment, version, function, method, state, attempts, worker, in_group, parent, binding, submitted_at, started_at, ended_at, sequence, result, failure, items;

-- last_sequence: the number of the newest end
SELECT coalesce(max(sequence), 0) FROM calls;

-- get: one call
SELECT workspace, id, app, environment, version, function, method, state, attempts, worker, in_group, parent, binding, submitted_at, started_at, ended_at, sequence, result, failure, items FROM calls WHERE workspace = :workspace AND id = :id;

-- list: calls, newest first, without their results
SELECT workspace, id, app, environment, version, function, method, state, attempts, worker, in_group, parent, binding, submitted_at, started_at, ended_at, sequence, NULL AS result, failure, items FROM calls
WHERE workspace = :workspace AND (:app = '' OR app = :app) AND (:environment = '' OR environment = :environment)
    AND (:function = '' OR function = :function) AND (:state = '' OR state = :state) AND (:before = '' OR id < :before)
    AND submitted_at >= :since
ORDER BY id DESC LIMIT :limit;

-- list_children: the same, of those that one call made
SELECT workspace, id, app, environment, version, function, method, state, attempts, worker, in_group, parent, binding, submitted_at, started_at, ended_at, sequence, NULL AS result, failure, items FROM calls INDEXED BY calls_by_parent
WHERE workspace = :workspace AND parent = :parent AND parent <> '' AND (:app = '' OR app = :app)
    AND (:environment = '' OR environment = :environment) AND (:function = '' OR function = :function)
    AND (:state = '' OR state = :state) AND (:before = '' OR id < :before) AND submitted_at >= :since
ORDER BY id DESC LIMIT :limit;

-- tree: a call, those it made, those these made and so on down, without their results; nearest first where there are too many
WITH RECURSIVE family (id, depth) AS (
    SELECT :id, 0
    UNION ALL
    SELECT child.id, family.depth + 1 FROM family JOIN calls AS child INDEXED BY calls_by_parent
        ON child.workspace = :workspace AND child.parent = family.id AND child.parent <> '' AND family.depth < :depth
    LIMIT :limit
)
SELECT calls.workspace, calls.id, app, environment, version, function, method, state, attempts, worker, in_group, parent, binding, submitted_at, started_at, ended_at, sequence, NULL AS result, failure, items
FROM family JOIN calls ON calls.workspace = :workspace AND calls.id = family.id ORDER BY calls.id;

-- group_ended: the calls of a group past an end, in the order of their ends
SELECT workspace, id, app, environment, version, function, method, state, attempts, worker, in_group, parent, binding, submitted_at, started_at, ended_at, sequence, result, failure, items FROM calls
WHERE workspace = :workspace AND in_group = :group AND in_group <> '' AND sequence > :after ORDER BY sequence LIMIT :limit;

-- group_oldest: the call of a group that has waited longest
SELECT workspace, id, app, environment, version, function, method, state, attempts, worker, in_group, parent, binding, submitted_at, started_at, ended_at, sequence, result, failure, items FROM calls
WHERE workspace = :workspace AND in_group = :group AND in_group <> '' AND sequence = 0 ORDER BY id LIMIT 1;

-- unfinished_one: a call that waits or runs
SELECT id, app, environment, version, function, binding FROM calls WHERE workspace = :workspace AND id = :id AND sequence = 0;

-- unfinished_group: the calls of a group that wait or run
SELECT id, app, environment, version, function, binding FROM calls
WHERE workspace = :workspace AND in_group = :group AND sequence = 0 AND in_group <> '';

-- payload: what one call was given
SELECT payload FROM calls WHERE workspace = :workspace AND id = :id;

-- request: what one call asked for
SELECT app, environment, function, method, binding, session, is_strict, accept, payload, priority, order_key FROM calls WHERE workspace = :workspace AND id = :id;

-- session_worker: the worker that had the newest call of a session of a function
SELECT worker FROM calls INDEXED BY calls_by_session
WHERE workspace = :workspace AND session = :session AND session <> '' AND app = :app AND environment = :environment
    AND function = :function AND binding = :binding AND worker <> '' ORDER BY id DESC LIMIT 1;

-- attempts: the tries of a call: those that sent it back, and the one that has it or ended it
SELECT call, number, worker, node, started_at, ended_at, outcome, detail, failure FROM (
    SELECT token_epoch, token_n, call, number, worker, node, started_at, ended_at, outcome, detail, NULL AS failure
    FROM attempts WHERE workspace = :workspace AND call = :call
    UNION ALL
    SELECT token_epoch, token_n, id, iif(state = 'running', attempts + 1, max(attempts, 1)), worker, node, started_at, ended_at,
        iif(state = 'running', '', state), '', failure
    FROM calls WHERE workspace = :workspace AND id = :call AND state <> 'queued' AND token_n > 0 AND NOT EXISTS (
        SELECT 1 FROM attempts WHERE attempts.workspace = calls.workspace AND attempts.call = calls.id
            AND attempts.token_epoch = calls.token_epoch AND attempts.token_n = calls.token_n
    )
) ORDER BY token_epoch, token_n;

-- unfinished: every call that waits or runs, but for those that wait here alone, oldest first
SELECT id, workspace, app, environment, version, function, method, binding, accept, state, attempts, token_epoch, token_n,
    worker, node, not_before, submitted_at, in_group, parent, is_awaited, session, is_strict, priority, order_key, expires_at, NULL
FROM calls WHERE sequence = 0 AND is_beyond = 0 ORDER BY workspace, id;

-- lines: how many calls wait here alone, by function and priority
SELECT c.workspace, v.app, v.environment, c.version, c.function, c.binding, c.priority, c.n FROM (
    SELECT workspace, version, function, binding, priority, count(*) AS n FROM calls WHERE is_beyond = 1
    GROUP BY workspace, version, function, binding, priority
) AS c JOIN versions AS v ON v.workspace = c.workspace AND v.id = c.version;

-- bring: those that are next of the calls of a function that wait here alone; they do no more
UPDATE calls SET is_beyond = 0 WHERE rowid IN (
    SELECT rowid FROM calls INDEXED BY calls_beyond WHERE workspace = :workspace AND version = :version
        AND function = :function AND binding = :binding AND is_beyond = 1 ORDER BY priority DESC, rowid LIMIT :limit
) RETURNING id, workspace, app, environment, version, function, method, binding, accept, state, attempts, token_epoch, token_n,
    worker, node, not_before, submitted_at, in_group, parent, is_awaited, session, is_strict, priority, order_key, expires_at, payload, rowid;

-- bring_late: the same for those that have waited longer than they may
UPDATE calls SET is_beyond = 0 WHERE rowid IN (
    SELECT rowid FROM calls INDEXED BY calls_beyond_late WHERE is_beyond = 1 AND expires_at <= :now LIMIT :limit
) RETURNING id, workspace, app, environment, version, function, method, binding, accept, state, attempts, token_epoch, token_n,
    worker, node, not_before, submitted_at, in_group, parent, is_awaited, session, is_strict, priority, order_key, expires_at, NULL, rowid;

-- beyond: some of the calls of a version, or of one function of it, that wait here alone
SELECT id, function, binding, priority FROM calls INDEXED BY calls_beyond
WHERE workspace = :workspace AND version = :version AND (:function = '' OR function = :function) AND is_beyond = 1 LIMIT :limit;

-- move_beyond: some of the calls of a function that wait here alone are for another version
UPDATE calls SET version = :heir WHERE rowid IN (
    SELECT rowid FROM calls INDEXED BY calls_beyond WHERE workspace = :workspace AND version = :version
        AND function = :function AND binding = :binding AND is_beyond = 1 ORDER BY priority DESC, rowid LIMIT :limit
) RETURNING id, priority;

-- move: a call that waits is for another version
UPDATE calls SET version = :version WHERE workspace = :workspace AND id = :id AND sequence = 0;

-- dead: calls of a function that came to nothing and were not made once more, oldest ends first
SELECT workspace, id, app, environment, version, function, method, state, attempts, worker, in_group, parent, binding, submitted_at, started_at, ended_at, sequence, NULL AS result, failure, items
FROM calls INDEXED BY calls_dead WHERE workspace = :workspace AND app = :app AND environment = :environment AND function = :function
    AND state IN ('failed', 'timed_out', 'expired') AND rerun = '' ORDER BY sequence LIMIT :limit;

-- count_dead: how many of them there are
SELECT count(*) FROM calls INDEXED BY calls_dead WHERE workspace = :workspace AND app = :app AND environment = :environment
    AND function = :function AND state IN ('failed', 'timed_out', 'expired') AND rerun = '';

-- note_rerun: a call was made once more, as another; no row: it was before, or is no such call
UPDATE calls SET rerun = :rerun WHERE workspace = :workspace AND id = :id AND rerun = '' AND state IN ('failed', 'timed_out', 'expired')
RETURNING id;

-- forget: drop some of the calls that ended before a time, looking no further than the oldest ends
DELETE FROM calls WHERE rowid IN (
    SELECT rowid FROM (SELECT rowid, ended_at FROM calls WHERE sequence > 0 ORDER BY sequence LIMIT :limit) WHERE ended_at < :before
) RETURNING workspace, id;

-- forget_attempts: drop the tries of calls that are not kept any more
DELETE FROM attempts WHERE workspace = :workspace AND call = :call;

-- names_blob: whether a call or a version still needs a blob
SELECT EXISTS (SELECT 1 FROM calls WHERE payload_blob = :blob AND payload_blob <> '')
    OR EXISTS (SELECT 1 FROM calls WHERE result_blob = :blob AND result_blob <> '')
    OR EXISTS (SELECT 1 FROM versions WHERE code = :blob);
