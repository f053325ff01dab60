-- The lines that workers wrote, in the order in which they were kept.

CREATE TABLE lines (
    id INTEGER PRIMARY KEY,
    workspace TEXT NOT NULL,
    at REAL NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    function TEXT NOT NULL,
    worker TEXT NOT NULL,
    call TEXT NOT NULL,
    source TEXT NOT NULL,
    text TEXT NOT NULL
);

CREATE INDEX lines_by_call ON lines (workspace, call, id);
CREATE INDEX lines_by_worker ON lines (workspace, worker, id);
CREATE INDEX lines_by_place ON lines (workspace, environment, app, function, id);
