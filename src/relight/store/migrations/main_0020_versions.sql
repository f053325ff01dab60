-- Who made a version, and of what; where a name leads to in parts; and every time that it came to lead elsewhere.

ALTER TABLE versions ADD COLUMN made_by TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
ALTER TABLE versions ADD COLUMN commit_id TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN source TEXT NOT NULL DEFAULT '';

CREATE INDEX versions_by_place ON versions (workspace, app, environment, at);

ALTER TABLE routes ADD COLUMN canary TEXT NOT NULL DEFAULT '';
ALTER TABLE routes ADD COLUMN canary_percent REAL NOT NULL DEFAULT 0 CHECK (canary_percent BETWEEN 0 AND 100);

CREATE TABLE switches (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace TEXT NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    at REAL NOT NULL,
    made_by TEXT NOT NULL,
    how TEXT NOT NULL,
    version TEXT NOT NULL,
    canary TEXT NOT NULL,
    canary_percent REAL NOT NULL
);

CREATE INDEX switches_by_place ON switches (workspace, app, environment, n);
