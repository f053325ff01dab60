-- begin_epoch: the next epoch
INSERT INTO epochs (n) VALUES ((SELECT coalesce(max(n), 0) + 1 FROM epochs)) RETURNING n;

-- add_token: a token is known
INSERT INTO tokens (workspace, id, hash, at, name, scope, app, expires_at, last_used_at)
VALUES (:workspace, :id, :hash, :at, :name, :scope, :app, :expires_at, :last_used_at) ON CONFLICT (hash) DO NOTHING;

-- tokens: every token, oldest first
SELECT workspace, id, hash, at, name, scope, app, expires_at, last_used_at FROM tokens ORDER BY workspace, id;

-- use_token: when a token was shown last
UPDATE tokens SET last_used_at = max(coalesce(last_used_at, 0), :at) WHERE workspace = :workspace AND id = :id;

-- remove_token: a token is not known any more
DELETE FROM tokens WHERE workspace = :workspace AND id = :id;

-- add_version: keep a version
INSERT INTO versions (workspace, id, app, environment, manifest, code, at, made_by, tags, commit_id, source)
VALUES (:workspace, :id, :app, :environment, :manifest, :code, :at, :made_by, :tags, :commit_id, :source);

-- versions: those of an app in an environment, oldest first, and the part of the calls that leads to each, by copies or not
SELECT v.id, v.at, v.made_by, v.tags, v.commit_id, v.source,
    CASE WHEN v.id = r.version THEN iif(r.strategy = 'shadow', 100, 100 - r.canary_percent)
        WHEN v.id = r.canary AND r.strategy <> 'shadow' THEN r.canary_percent ELSE 0 END,
    iif(v.id = r.canary AND r.strategy = 'shadow', r.canary_percent, 0)
FROM versions v LEFT JOIN routes r ON r.workspace = v.workspace AND r.app = v.app AND r.environment = v.environment
WHERE v.workspace = :workspace AND v.app = :app AND v.environment = :environment ORDER BY v.at, v.id;

-- route: where a name leads
SELECT r.version, v.manifest, r.canary, c.manifest, r.canary_percent, r.strategy
FROM routes r JOIN versions v ON v.workspace = r.workspace AND v.id = r.version
LEFT JOIN versions c ON c.workspace = r.workspace AND c.id = r.canary
WHERE r.workspace = :workspace AND r.app = :app AND r.environment = :environment;

-- switch_route: a name leads to a version, and in part to another
INSERT INTO routes (workspace, app, environment, version, at, canary, canary_percent, strategy)
VALUES (:workspace, :app, :environment, :version, :at, :canary, :canary_percent, :strategy)
ON CONFLICT (workspace, app, environment) DO UPDATE
SET version = excluded.version, at = excluded.at, canary = excluded.canary, canary_percent = excluded.canary_percent,
    strategy = excluded.strategy;

-- add_switch: a time from which on a name leads elsewhere
INSERT INTO switches (workspace, app, environment, at, made_by, how, version, canary, canary_percent, strategy)
VALUES (:workspace, :app, :environment, :at, :made_by, :how, :version, :canary, :canary_percent, :strategy);

-- switches: where a name has led, the newest first
SELECT at, how, version, canary, canary_percent, made_by, strategy FROM switches
WHERE workspace = :workspace AND app = :app AND environment = :environment ORDER BY n DESC LIMIT :limit;

-- remove_route: a name leads nowhere
DELETE FROM routes WHERE workspace = :workspace AND app = :app AND environment = :environment;

-- routes: every name, and what it leads to
SELECT r.app, r.environment, r.version, r.at, v.manifest
FROM routes r JOIN versions v ON v.workspace = r.workspace AND v.id = r.version
WHERE r.workspace = :workspace ORDER BY r.app, r.environment;

-- manifest: what a version is
SELECT manifest FROM versions WHERE workspace = :workspace AND id = :id;

-- put_worker: a worker as it is now
INSERT INTO workers (workspace, id, state, view) VALUES (:workspace, :id, :state, :view)
ON CONFLICT (workspace, id) DO UPDATE SET state = excluded.state, view = excluded.view;

-- move_worker: a worker turned busy or idle
UPDATE workers SET state = :state WHERE workspace = :workspace AND id = :id;

-- last_interval: the state that a worker is in, or was in last
SELECT n, since, until FROM worker_intervals WHERE workspace = :workspace AND worker = :id ORDER BY n DESC LIMIT 1;

-- close_interval: a worker leaves the state it was in
UPDATE worker_intervals SET until = :since WHERE workspace = :workspace AND worker = :id AND n = :n AND until IS NULL;

-- open_interval: a worker enters a state, which it has left where that is known
INSERT INTO worker_intervals (workspace, worker, n, state, since, until, detail)
VALUES (:workspace, :id, :n, :state, :since, :until, :detail);

-- worker: one worker
SELECT view, state FROM workers WHERE workspace = :workspace AND id = :id;

-- workers: the newest workers, oldest first
SELECT view, state FROM (
    SELECT id, view, state FROM workers WHERE workspace = :workspace AND (:include_gone OR state <> 'gone') ORDER BY id DESC LIMIT :limit
) ORDER BY id;

-- intervals: a worker's life, or how it began and what overlaps a time: it changes state with every call
SELECT worker, state, since, until, detail FROM worker_intervals
WHERE workspace = :workspace AND worker = :worker
    AND (n < :first OR since <= coalesce(:until, since) AND coalesce(until, :since) >= :since)
ORDER BY n;

-- put_tuning: what is said of a function from now on
INSERT INTO tunings (workspace, app, environment, function, said) VALUES (:workspace, :app, :environment, :function, :said)
ON CONFLICT (workspace, app, environment, function) DO UPDATE SET said = excluded.said;

-- remove_tuning: nothing is said of a function any more
DELETE FROM tunings WHERE workspace = :workspace AND app = :app AND environment = :environment AND function = :function;

-- tunings: all that is said of functions
SELECT workspace, app, environment, function, said FROM tunings ORDER BY workspace, app, environment, function;
