SELECT has_table_privilege('cache_outbox.events', 'SELECT') AS read_events, has_table_privilege('cache_outbox.events', 'DELETE') AS delete_events,
       has_table_privilege('cache_outbox.state', 'SELECT') AS read_state, has_table_privilege('cache_outbox.state', 'UPDATE') AS update_state,
       (SELECT array_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod) ORDER BY a.attname)
        FROM pg_attribute a WHERE a.attrelid = 'cache_outbox.events'::regclass AND a.attnum > 0 AND NOT a.attisdropped) AS events_columns,
       (SELECT array_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod) ORDER BY a.attname)
        FROM pg_attribute a WHERE a.attrelid = 'cache_outbox.state'::regclass AND a.attnum > 0 AND NOT a.attisdropped) AS state_columns,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = 'cache_outbox.events'::regclass AND i.indisvalid
               AND pg_get_indexdef(i.indexrelid) LIKE '%(txid, id)') AS indexed,
       -- Bits of tgtype: 1 for each row, 2 before, 4 insert. Such a one can change the row or take it away.
       (SELECT array_agg(quote_ident(tgname) ORDER BY tgname) FROM pg_trigger
        WHERE tgrelid = 'cache_outbox.events'::regclass AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 7 = 7) AS row_triggers,
       (SELECT array_agg(quote_ident(tgname) ORDER BY tgname) FROM pg_trigger
        WHERE tgrelid = 'cache_outbox.events'::regclass AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 7 <> 7) AS triggers,
       (SELECT bool_and(p.prosecdef) FROM pg_proc p WHERE p.oid = to_regprocedure('cache_outbox.enqueue(text[])')) AS definer,
       (SELECT relpersistence::text FROM pg_class WHERE oid = 'cache_outbox.events'::regclass) AS persistence,
       row_security_active('cache_outbox.events') AS row_security,
       coalesce((SELECT 'autovacuum_enabled=false' = ANY (reloptions) FROM pg_class WHERE oid = 'cache_outbox.events'::regclass), false) AS no_vacuum,
       pg_total_relation_size('cache_outbox.events') AS bytes,
       coalesce((SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'cache_outbox.events'::regclass), 0) AS dead,
       (SELECT extract(epoch FROM now() - prepared)::float8 FROM pg_prepared_xacts
        WHERE database = current_database() ORDER BY prepared LIMIT 1) AS oldest_prepared,
       (SELECT extract(epoch FROM now() - xact_start)::float8 FROM pg_stat_activity
        WHERE (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL) AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        ORDER BY xact_start LIMIT 1) AS oldest_running;
