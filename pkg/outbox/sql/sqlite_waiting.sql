SELECT count(*), coalesce(sum(length(CAST(key AS BLOB))), 0) FROM (SELECT key FROM cache_outbox_events WHERE id > ?1 LIMIT ?2);
