DELETE FROM cache_outbox_events
WHERE id IN (SELECT id FROM cache_outbox_events WHERE id < ?1 AND created_at < ?2 ORDER BY id LIMIT ?3);
