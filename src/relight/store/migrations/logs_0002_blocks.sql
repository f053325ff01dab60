-- Lines are kept in blocks of a few hundred, compressed, with an index of what each may hold; the newest wait in `tails`
-- until they fill a block.  The lines of a server before this one are still in `lines`, and are moved when it starts.

CREATE TABLE blocks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace TEXT NOT NULL,
    first_line INTEGER NOT NULL,
    last_line INTEGER NOT NULL CHECK (last_line >= first_line),
    oldest REAL NOT NULL,
    newest REAL NOT NULL
);

CREATE INDEX blocks_by_line ON blocks (workspace, last_line, id);
CREATE INDEX blocks_by_age ON blocks (newest);

CREATE TABLE bodies (
    block INTEGER PRIMARY KEY,
    head BLOB NOT NULL,
    text BLOB NOT NULL
);

CREATE TABLE tails (
    workspace TEXT NOT NULL,
    first_line INTEGER NOT NULL,
    last_line INTEGER NOT NULL CHECK (last_line >= first_line),
    oldest REAL NOT NULL,
    newest REAL NOT NULL,
    head BLOB NOT NULL,
    text BLOB NOT NULL,
    PRIMARY KEY (workspace, first_line)
);

-- A shelf's table of bits: slice n of shelf s has the id s * 1024 + n.
CREATE TABLE slices (
    id INTEGER PRIMARY KEY,
    bits BLOB NOT NULL
);

-- The number of the last batch that each agent's process has had kept.
CREATE TABLE senders (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    at REAL NOT NULL
);

-- The number of the last line of each workspace.
CREATE TABLE last_lines (
    workspace TEXT PRIMARY KEY,
    number INTEGER NOT NULL
);

INSERT INTO last_lines (workspace, number) SELECT workspace, max(id) FROM lines GROUP BY workspace;

-- The shelves below this one have an index.
CREATE TABLE indexed (
    shelf INTEGER NOT NULL
);

INSERT INTO indexed (shelf) VALUES (0);

DROP INDEX lines_by_call;
DROP INDEX lines_by_worker;
DROP INDEX lines_by_place;
