-- How each worker was started: in the order of time, in which starts are asked for and forgotten.

CREATE TABLE starts (
    workspace TEXT NOT NULL,
    at REAL NOT NULL,
    worker TEXT NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    function TEXT NOT NULL,
    binding TEXT NOT NULL,
    node TEXT NOT NULL,
    level TEXT NOT NULL,
    why TEXT NOT NULL,
    phases TEXT NOT NULL,
    seconds REAL NOT NULL CHECK (seconds >= 0),
    failure TEXT NOT NULL,
    PRIMARY KEY (workspace, at, worker)
) WITHOUT ROWID;
