-- The names that callers gave calls (`Idempotency-Key`), each with the call that it stands for: kept with that, in one
-- transaction.  `digest` says what was asked under it.

CREATE TABLE call_keys (
    workspace TEXT NOT NULL,
    owner TEXT NOT NULL,
    function TEXT NOT NULL,
    key TEXT NOT NULL,
    call TEXT NOT NULL,
    digest TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (workspace, owner, function, key)
) WITHOUT ROWID;

CREATE INDEX call_keys_by_age ON call_keys (at);
