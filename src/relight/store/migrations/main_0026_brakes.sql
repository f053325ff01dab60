-- What holds up the starts of a function whose workers crash again and again: a server that comes back goes on with it.

CREATE TABLE brakes (
    workspace TEXT NOT NULL,
    version TEXT NOT NULL,
    function TEXT NOT NULL,
    binding TEXT NOT NULL,
    crashes INTEGER NOT NULL CHECK (crashes > 0),
    crashed_at REAL NOT NULL,
    blocked_until REAL NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (workspace, version, function, binding)
) WITHOUT ROWID;
