-- The session runs a handful of statements that only ever want the index on (txid, id). No other plan is right for a queue,
-- whatever the statistics say: they are those of an empty table when a backlog begins.
-- synchronous_commit: the relay's own commits must reach this server's disk and need not wait for a standby.
SELECT set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false),
       set_config('max_parallel_workers_per_gather', '0', false), set_config('jit', 'off', false),
       set_config('synchronous_commit', 'local', false), set_config('default_transaction_read_only', 'off', false),
       set_config('default_transaction_isolation', 'read committed', false);
