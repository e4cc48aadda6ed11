SELECT id, key, token, created_at FROM cache_outbox_events WHERE id > ? ORDER BY id LIMIT ?;
