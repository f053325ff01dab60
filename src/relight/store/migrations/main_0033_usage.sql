-- What workers used, and what it cost: both are only ever added to.

CREATE TABLE usage (
    workspace TEXT NOT NULL,
    worker TEXT NOT NULL,
    n INTEGER NOT NULL CHECK (n >= 0),
    node TEXT NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    function TEXT NOT NULL,
    binding TEXT NOT NULL,
    kind TEXT NOT NULL,
    since_us INTEGER NOT NULL,
    until_us INTEGER NOT NULL CHECK (until_us >= since_us),
    times TEXT NOT NULL,
    cpu_millis INTEGER NOT NULL,
    memory_mib INTEGER NOT NULL,
    gpus TEXT NOT NULL,
    calls INTEGER NOT NULL,
    cpu_us INTEGER,
    egress_bytes INTEGER,
    is_last INTEGER NOT NULL,
    PRIMARY KEY (workspace, worker, n)
) WITHOUT ROWID;

CREATE INDEX usage_by_time ON usage (workspace, until_us);

CREATE TABLE postings (
    workspace TEXT NOT NULL,
    worker TEXT NOT NULL,
    n INTEGER NOT NULL,
    correction INTEGER NOT NULL DEFAULT 0 CHECK (correction >= 0),
    until_us INTEGER NOT NULL,
    card TEXT NOT NULL,
    nanos INTEGER,
    billed_us INTEGER NOT NULL,
    reason TEXT NOT NULL DEFAULT '' CHECK ((correction = 0) = (reason = '')),
    PRIMARY KEY (workspace, worker, n, correction),
    FOREIGN KEY (workspace, worker, n) REFERENCES usage (workspace, worker, n)
) WITHOUT ROWID;

CREATE TRIGGER usage_stays BEFORE UPDATE ON usage BEGIN SELECT RAISE(ABORT, 'usage is never changed'); END;
CREATE TRIGGER usage_is_kept BEFORE DELETE ON usage BEGIN SELECT RAISE(ABORT, 'usage is never removed'); END;
CREATE TRIGGER postings_stay BEFORE UPDATE ON postings BEGIN SELECT RAISE(ABORT, 'a posting is corrected by another'); END;
CREATE TRIGGER postings_are_kept BEFORE DELETE ON postings BEGIN SELECT RAISE(ABORT, 'a posting is corrected by another'); END;

ALTER TABLE calls ADD COLUMN used_us INTEGER NOT NULL DEFAULT 0;

CREATE TABLE budgets (
    workspace TEXT NOT NULL,
    app TEXT NOT NULL,
    nanos INTEGER NOT NULL CHECK (nanos >= 0),
    warn_percent INTEGER NOT NULL CHECK (warn_percent BETWEEN 1 AND 100),
    PRIMARY KEY (workspace, app)
) WITHOUT ROWID;
