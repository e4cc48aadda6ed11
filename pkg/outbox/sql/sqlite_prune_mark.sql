UPDATE cache_outbox_state
SET pruned_below = max(pruned_below, coalesce((
    SELECT max(id) + 1 FROM (SELECT id FROM cache_outbox_events WHERE id < ?1 AND created_at < ?2 ORDER BY id LIMIT ?3)), 0));
