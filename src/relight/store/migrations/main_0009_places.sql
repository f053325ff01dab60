-- Whoever lists the calls of an app wants the newest, which the order of the ids gives: no query asked this tree.

DROP INDEX calls_by_place;
