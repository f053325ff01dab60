-- Whether the call that made a call waits for it, and so takes it along when it ends badly.

ALTER TABLE calls ADD COLUMN is_awaited INTEGER NOT NULL DEFAULT 0 CHECK (is_awaited IN (0, 1));
