-- Web requests that are over, in blocks: those of one function that ended at about the same time, compressed.  A block
-- says between which ids they are, by which they sort, and when the last of them ended.

CREATE TABLE blocks (
    n INTEGER PRIMARY KEY,
    workspace TEXT NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    function TEXT NOT NULL,
    method TEXT NOT NULL,
    first_id TEXT NOT NULL,
    last_id TEXT NOT NULL CHECK (last_id >= first_id),
    ended_at REAL NOT NULL,
    size INTEGER NOT NULL CHECK (size > 0),
    body BLOB NOT NULL
);

CREATE INDEX blocks_by_id ON blocks (workspace, last_id);
CREATE INDEX blocks_by_place ON blocks (workspace, app, function, last_id);
CREATE INDEX blocks_by_end ON blocks (ended_at, size);
