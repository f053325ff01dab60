-- add_source: a branch whose pushes are deployed
INSERT INTO sources (workspace, id, url, branch, file, environment, status_url, secret, status_token, made_by, at)
VALUES (:workspace, :id, :url, :branch, :file, :environment, :status_url, :secret, :status_token, :made_by, :at);

-- sources: those of a workspace, oldest first
SELECT id, url, branch, file, environment, status_url, made_by, at FROM sources WHERE workspace = :workspace ORDER BY id;

-- source: one, whosever it is, with its secrets
SELECT id, url, branch, file, environment, status_url, made_by, at, workspace, secret, status_token FROM sources WHERE id = :id;

-- remove_pushes: what became of the pushes of a source is forgotten
DELETE FROM pushes WHERE workspace = :workspace AND source = :id;

-- remove_source: its pushes are deployed no more
DELETE FROM sources WHERE workspace = :workspace AND id = :id;

-- put_push: a push as it is now
INSERT INTO pushes (workspace, id, source, commit_id, state, at, ended_at, versions, detail)
VALUES (:workspace, :id, :source, :commit_id, :state, :at, :ended_at, :versions, :detail)
ON CONFLICT (workspace, id) DO UPDATE SET commit_id = excluded.commit_id, state = excluded.state,
    ended_at = excluded.ended_at, versions = excluded.versions, detail = excluded.detail;

-- pushes: those of a source, the newest first
SELECT id, source, commit_id, state, at, ended_at, versions, detail FROM pushes
WHERE workspace = :workspace AND source = :source ORDER BY id DESC LIMIT :limit;

-- unfinished: the pushes that were not seen to their end, oldest first
SELECT id, source, commit_id, state, at, ended_at, versions, detail FROM pushes WHERE ended_at IS NULL ORDER BY id;
