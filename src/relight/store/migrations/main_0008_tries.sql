-- The try that runs, or that ended its call, is said by the call itself: only those that sent their call back have rows.
-- What is to be forgotten is found in the order of the ends.

DELETE FROM attempts WHERE EXISTS (
    SELECT 1 FROM calls
    WHERE calls.workspace = attempts.workspace AND calls.id = attempts.call AND calls.state <> 'queued'
        AND calls.token_epoch = attempts.token_epoch AND calls.token_n = attempts.token_n
        AND attempts.outcome NOT IN ('lease_lost', 'retried')
);
DROP INDEX calls_by_end_time;
