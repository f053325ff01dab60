-- The first form: calls and their attempts, versions and routes, workers and their states, tokens, epochs.

CREATE TABLE epochs (n INTEGER PRIMARY KEY);

CREATE TABLE tokens (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    at REAL NOT NULL,
    PRIMARY KEY (workspace, id)
) WITHOUT ROWID;

CREATE TABLE versions (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    manifest TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (workspace, id)
);

CREATE TABLE routes (
    workspace TEXT NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (workspace, app, environment),
    FOREIGN KEY (workspace, version) REFERENCES versions (workspace, id)
) WITHOUT ROWID;

CREATE TABLE calls (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    function TEXT NOT NULL,
    method TEXT NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out', 'expired')),
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    token_epoch INTEGER NOT NULL DEFAULT 0,
    token_n INTEGER NOT NULL DEFAULT 0,
    worker TEXT NOT NULL DEFAULT '',
    node TEXT NOT NULL DEFAULT '',
    in_group TEXT NOT NULL,
    parent TEXT NOT NULL,
    accept TEXT NOT NULL,
    not_before REAL NOT NULL DEFAULT 0,
    submitted_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    sequence INTEGER NOT NULL DEFAULT 0,
    payload_blob TEXT NOT NULL DEFAULT '',
    result_blob TEXT NOT NULL DEFAULT '',
    payload BLOB NOT NULL,
    result BLOB,
    failure BLOB,
    PRIMARY KEY (workspace, id),
    CHECK ((state IN ('queued', 'running')) = (sequence = 0)),
    CHECK ((state IN ('queued', 'running')) = (ended_at IS NULL))
);

CREATE INDEX calls_unfinished ON calls (workspace, id) WHERE sequence = 0;
CREATE INDEX calls_by_group ON calls (workspace, in_group, sequence) WHERE in_group <> '';
CREATE INDEX calls_by_place ON calls (workspace, app, environment, function, id);
CREATE UNIQUE INDEX calls_by_end ON calls (sequence) WHERE sequence > 0;

CREATE TABLE attempts (
    workspace TEXT NOT NULL,
    call TEXT NOT NULL,
    token_epoch INTEGER NOT NULL,
    token_n INTEGER NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 1),
    worker TEXT NOT NULL,
    node TEXT NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL,
    outcome TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (workspace, call, token_epoch, token_n)
) WITHOUT ROWID;

CREATE TABLE workers (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    view TEXT NOT NULL,
    PRIMARY KEY (workspace, id)
) WITHOUT ROWID;

CREATE TABLE worker_intervals (
    workspace TEXT NOT NULL,
    worker TEXT NOT NULL,
    n INTEGER NOT NULL,
    state TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL CHECK (until >= since),
    detail TEXT NOT NULL,
    PRIMARY KEY (workspace, worker, n)
) WITHOUT ROWID;
