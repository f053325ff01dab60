-- add: a block of requests
INSERT INTO blocks (workspace, app, environment, version, function, method, first_id, last_id, ended_at, size, body)
VALUES (:workspace, :app, :environment, :version, :function, :method, :first_id, :last_id, :ended_at, :size, :body);

-- newest: the blocks that may have what is asked for, those with the newest requests first
SELECT app, environment, version, function, method, last_id, body FROM blocks INDEXED BY blocks_by_id
WHERE workspace = :workspace AND (:app = '' OR app = :app) AND (:environment = '' OR environment = :environment)
    AND (:function = '' OR function = :function) AND (:before = '' OR first_id < :before) AND ended_at >= :since
ORDER BY last_id DESC;

-- newest_of: the same of one function of an app
SELECT app, environment, version, function, method, last_id, body FROM blocks INDEXED BY blocks_by_place
WHERE workspace = :workspace AND app = :app AND function = :function AND (:environment = '' OR environment = :environment)
    AND (:before = '' OR first_id < :before) AND ended_at >= :since
ORDER BY last_id DESC;

-- around: the blocks that may have one request
SELECT app, environment, version, function, method, last_id, body FROM blocks INDEXED BY blocks_by_id
WHERE workspace = :workspace AND last_id >= :id AND first_id <= :id ORDER BY last_id;

-- forget: drop some of the blocks whose last request ended before a time; how many requests each had
DELETE FROM blocks WHERE n IN (
    SELECT n FROM blocks INDEXED BY blocks_by_end WHERE ended_at < :before ORDER BY ended_at LIMIT :limit
) RETURNING size;

-- count: how many requests there are
SELECT coalesce(sum(size), 0) FROM blocks INDEXED BY blocks_by_end;
