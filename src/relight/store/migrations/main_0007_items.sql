-- How many items a generator had made when its call ended: a reader knows by it that it has them all.

ALTER TABLE calls ADD COLUMN items INTEGER NOT NULL DEFAULT 0 CHECK (items >= 0);
