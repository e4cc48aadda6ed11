-- A commit flushes everything before it, and a transactional message is the smallest thing that has one to commit.
SELECT pg_logical_emit_message(true, 'invalidator', '');
