-- pg_current_snapshot() is this statement's own snapshot, taken before the statement runs. The WAL positions are volatile
-- functions, evaluated while it runs, so inserted lies behind the commit record of every transaction that the snapshot sees.
SELECT pg_current_snapshot()::text AS snapshot, pg_current_wal_insert_lsn()::text AS inserted,
       pg_current_wal_flush_lsn()::text AS flushed, pg_is_in_recovery() AS recovery, pg_backend_pid() AS pid;
