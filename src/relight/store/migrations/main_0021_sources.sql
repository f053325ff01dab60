-- Branches whose pushes are deployed, and what became of the pushes.  What is secret of a source is sealed.

CREATE TABLE sources (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    url TEXT NOT NULL,
    branch TEXT NOT NULL,
    file TEXT NOT NULL,
    environment TEXT NOT NULL,
    status_url TEXT NOT NULL,
    secret BLOB NOT NULL,
    status_token BLOB NOT NULL,
    made_by TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (workspace, id)
) WITHOUT ROWID;

CREATE TABLE pushes (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    state TEXT NOT NULL,
    at REAL NOT NULL,
    ended_at REAL,
    versions TEXT NOT NULL DEFAULT '[]',
    detail TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (workspace, id),
    FOREIGN KEY (workspace, source) REFERENCES sources (workspace, id) ON DELETE CASCADE
) WITHOUT ROWID;

CREATE INDEX pushes_by_source ON pushes (workspace, source, id);
CREATE INDEX pushes_unfinished ON pushes (workspace, id) WHERE ended_at IS NULL;
