-- append: keep a line
INSERT INTO lines (workspace, at, app, environment, function, worker, call, source, text)
VALUES (:workspace, :at, :app, :environment, :function, :worker, :call, :source, :text);

-- read: lines, oldest first
SELECT id, at, app, environment, function, worker, call, source, text FROM lines
WHERE workspace = :workspace AND id > :after AND (:app = '' OR app = :app) AND (:environment = '' OR environment = :environment)
    AND (:function = '' OR function = :function) AND (:worker = '' OR worker = :worker) AND (:call = '' OR call = :call)
    AND (:search = '' OR instr(text, :search))
ORDER BY id LIMIT :limit;

-- read_call: the same, of one call
SELECT id, at, app, environment, function, worker, call, source, text FROM lines INDEXED BY lines_by_call
WHERE workspace = :workspace AND id > :after AND (:app = '' OR app = :app) AND (:environment = '' OR environment = :environment)
    AND (:function = '' OR function = :function) AND (:worker = '' OR worker = :worker) AND call = :call
    AND (:search = '' OR instr(text, :search))
ORDER BY id LIMIT :limit;

-- read_worker: the same, of one worker
SELECT id, at, app, environment, function, worker, call, source, text FROM lines INDEXED BY lines_by_worker
WHERE workspace = :workspace AND id > :after AND (:app = '' OR app = :app) AND (:environment = '' OR environment = :environment)
    AND (:function = '' OR function = :function) AND worker = :worker AND (:call = '' OR call = :call)
    AND (:search = '' OR instr(text, :search))
ORDER BY id LIMIT :limit;

-- read_place: the same, of one environment
SELECT id, at, app, environment, function, worker, call, source, text FROM lines INDEXED BY lines_by_place
WHERE workspace = :workspace AND id > :after AND (:app = '' OR app = :app) AND environment = :environment
    AND (:function = '' OR function = :function) AND (:worker = '' OR worker = :worker) AND (:call = '' OR call = :call)
    AND (:search = '' OR instr(text, :search))
ORDER BY id LIMIT :limit;

-- forget: drop the lines from before a time
DELETE FROM lines WHERE at < :before;
