SELECT s.identity, coalesce(e.id, 0), coalesce(e.token, '')
FROM cache_outbox_state s LEFT JOIN (SELECT id, token FROM cache_outbox_events ORDER BY id DESC LIMIT 1) e ON true;
