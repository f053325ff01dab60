-- What becomes of the version before: where a name leads, and at each time that it came to lead elsewhere.

ALTER TABLE routes ADD COLUMN strategy TEXT NOT NULL DEFAULT 'rolling';
ALTER TABLE switches ADD COLUMN strategy TEXT NOT NULL DEFAULT 'rolling';
