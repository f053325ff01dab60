-- put: a text in the place of what was kept under its name
INSERT INTO recollections (workspace, kind, name, text, at) VALUES (:workspace, :kind, :name, :text, :at)
ON CONFLICT (workspace, kind, name) DO UPDATE SET text = excluded.text, at = excluded.at;

-- forget: what has not changed since a time
DELETE FROM recollections WHERE at < :before;

-- all: every text
SELECT workspace, kind, name, text, at FROM recollections;
