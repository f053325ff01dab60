-- What a server would forget: counts of shadows, the last decisions of autoscalers.  Written every few seconds at most.

CREATE TABLE recollections (
    workspace TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (workspace, kind, name)
) WITHOUT ROWID;
