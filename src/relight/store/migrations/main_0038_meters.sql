-- What a worker used beside its time: how much of each GPU was its own, the tokens that its function reported; and the tags that
-- what it costs is told by.

ALTER TABLE usage ADD COLUMN gpu_micros INTEGER NOT NULL DEFAULT 1000000;
ALTER TABLE usage ADD COLUMN tokens_in INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN tokens_out INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';

ALTER TABLE calls ADD COLUMN tokens_in INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN tokens_out INTEGER NOT NULL DEFAULT 0;
