SELECT EXISTS (SELECT 1 FROM cache_outbox_events WHERE id < ?1 AND created_at < ?2);
