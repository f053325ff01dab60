-- The session that a call belongs to, and whether only the worker that has it may run the call.

ALTER TABLE calls ADD COLUMN session TEXT NOT NULL DEFAULT '';
ALTER TABLE calls ADD COLUMN is_strict INTEGER NOT NULL DEFAULT 0 CHECK (is_strict IN (0, 1));
CREATE INDEX calls_by_session ON calls (workspace, session, id) WHERE session <> '';
