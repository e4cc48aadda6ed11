-- The names are not resolved by to_regclass, which refuses them without USAGE on the schema.
SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS recovery, pg_backend_pid() AS pid,
       current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit, current_setting('autovacuum') AS autovacuum,
       (SELECT count(*) = 2 FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname IN ('events', 'state') AND c.relkind IN ('r', 'p')) AS outbox,
       EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proname = 'enqueue' AND p.pronargs = 1 AND p.proargtypes[0] = 'text[]'::regtype) AS enqueue,
       coalesce(has_schema_privilege(n.oid, 'USAGE'), false) AS usage,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all,
       quote_ident(current_user) AS account
FROM (SELECT to_regnamespace('cache_outbox')::oid AS oid) n;
