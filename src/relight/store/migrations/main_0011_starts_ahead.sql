-- Some workers are started ahead of any call: such a start says what starting takes, not what a call waited for.

ALTER TABLE starts ADD COLUMN is_ahead INTEGER NOT NULL DEFAULT 0 CHECK (is_ahead IN (0, 1));
