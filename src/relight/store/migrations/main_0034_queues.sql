-- Calls have priorities, keys and times to live; those beyond a window wait here alone; what came to nothing may be made
-- once more; and what is said of a function after it was deployed is kept.

ALTER TABLE calls ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN order_key TEXT NOT NULL DEFAULT '';
ALTER TABLE calls ADD COLUMN expires_at REAL;
ALTER TABLE calls ADD COLUMN is_beyond INTEGER NOT NULL DEFAULT 0 CHECK (is_beyond IN (0, 1));
ALTER TABLE calls ADD COLUMN rerun TEXT NOT NULL DEFAULT '';

CREATE INDEX calls_beyond ON calls (workspace, version, function, binding, priority DESC) WHERE is_beyond = 1;
CREATE INDEX calls_beyond_late ON calls (expires_at) WHERE is_beyond = 1;
CREATE INDEX calls_dead ON calls (workspace, app, environment, function, sequence)
    WHERE state IN ('failed', 'timed_out', 'expired') AND rerun = '';

CREATE TABLE tunings (
    workspace TEXT NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    function TEXT NOT NULL,
    said TEXT NOT NULL,
    PRIMARY KEY (workspace, app, environment, function)
) WITHOUT ROWID;
