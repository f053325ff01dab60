-- What a token may do, for which app, until when, and when it was shown last; and which calls a call made.

ALTER TABLE tokens ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN scope TEXT NOT NULL DEFAULT 'admin' CHECK (scope IN ('read', 'call', 'deploy', 'admin'));
ALTER TABLE tokens ADD COLUMN app TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN expires_at REAL;
ALTER TABLE tokens ADD COLUMN last_used_at REAL;
CREATE INDEX calls_by_parent ON calls (workspace, parent, id) WHERE parent <> '';
