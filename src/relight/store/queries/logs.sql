-- number: numbers for so many new lines; the last of them
INSERT INTO last_lines (workspace, number) VALUES (:workspace, :count)
ON CONFLICT (workspace) DO UPDATE SET number = number + excluded.number RETURNING number;

-- last_batch: the last batch that was kept of a sender
SELECT number FROM senders WHERE name = :name;

-- keep_batch: this is now the last batch of a sender
INSERT INTO senders (name, number, at) VALUES (:name, :number, :at)
ON CONFLICT (name) DO UPDATE SET number = excluded.number, at = excluded.at;

-- count_tails: how many lines wait to fill a block
SELECT coalesce(sum(last_line - first_line + 1), 0) FROM tails WHERE workspace = :workspace;

-- add_tail: keep lines that do not fill a block
INSERT INTO tails (workspace, first_line, last_line, oldest, newest, head, text)
VALUES (:workspace, :first_line, :last_line, :oldest, :newest, :head, :text);

-- tails: the lines that wait to fill a block, oldest first
SELECT first_line, last_line, oldest, newest, head, text FROM tails
WHERE workspace = :workspace AND last_line > :after ORDER BY first_line;

-- drop_tails: they fill blocks now
DELETE FROM tails WHERE workspace = :workspace;

-- add_block: a block; its body follows
INSERT INTO blocks (workspace, first_line, last_line, oldest, newest)
VALUES (:workspace, :first_line, :last_line, :oldest, :newest);

-- add_body: what a block holds
INSERT INTO bodies (block, head, text) VALUES (:block, :head, :text);

-- last_line: the number of the last line
SELECT number FROM last_lines WHERE workspace = :workspace;

-- indexed: the shelves below this one have an index
SELECT shelf FROM indexed;

-- last_block: the newest block of all
SELECT coalesce(max(id), 0) FROM blocks;

-- first_block: the oldest block of all
SELECT min(id) FROM blocks;

-- add_slice: a part of a shelf's index
INSERT OR REPLACE INTO slices (id, bits) VALUES (:id, :bits);

-- note_indexed: the shelves below this one have an index
UPDATE indexed SET shelf = :shelf;

-- slice: a part of a shelf's index
SELECT bits FROM slices WHERE id = :id;

-- shelf: all blocks of a shelf with their bodies
SELECT id, workspace, head, text FROM blocks JOIN bodies ON block = id WHERE id BETWEEN :low AND :high ORDER BY id;

-- first_after: the first block with a line after this one
SELECT id FROM blocks WHERE workspace = :workspace AND last_line > :after ORDER BY last_line LIMIT 1;

-- block: where a block stands, if it may hold lines of this time
SELECT id, first_line FROM blocks
WHERE id = :id AND workspace = :workspace AND newest >= :since AND oldest <= :until;

-- blocks: the same of many, oldest first
SELECT id, first_line FROM blocks
WHERE id BETWEEN :low AND :high AND workspace = :workspace AND newest >= :since AND oldest <= :until ORDER BY id;

-- body_head: who wrote the lines of a block, and when
SELECT head FROM bodies WHERE block = :block;

-- body_text: the texts of a block
SELECT text FROM bodies WHERE block = :block;

-- old_blocks: blocks with no line from after a time
SELECT id, last_line - first_line + 1 FROM blocks WHERE newest < :before ORDER BY newest LIMIT :limit;

-- drop_block: a block's place
DELETE FROM blocks WHERE id = :id;

-- drop_body: a block's lines
DELETE FROM bodies WHERE block = :id;

-- count_old_tails: how many lines wait that are all from before a time
SELECT coalesce(sum(last_line - first_line + 1), 0) FROM tails WHERE newest < :before;

-- drop_old_tails: lines from before a time that never filled a block
DELETE FROM tails WHERE newest < :before;

-- drop_slices: the index of shelves that have no blocks any more
DELETE FROM slices WHERE id < :id;

-- drop_senders: agents that have not been heard of since
DELETE FROM senders WHERE at < :before;

-- old_lines: lines as they were kept before there were blocks
SELECT id, workspace, at, app, environment, function, worker, call, source, text FROM lines ORDER BY id LIMIT :limit;

-- drop_old_lines: they are in blocks now
DELETE FROM lines WHERE id <= :last;
