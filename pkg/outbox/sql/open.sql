-- The first 8 digits of a WAL file's name are the timeline.
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system,
       (SELECT format('%s/%s', oid, 'cache_outbox.events'::regclass::oid) FROM pg_database WHERE datname = current_database()) AS outbox,
       left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS timeline,
       pg_backend_pid() AS pid,
       has_table_privilege('cache_outbox.events', 'SELECT') AND has_table_privilege('cache_outbox.state', 'SELECT') AS may_read,
       has_table_privilege('cache_outbox.events', 'DELETE') AND has_table_privilege('cache_outbox.state', 'UPDATE') AS may_prune;
