SELECT token FROM cache_outbox_events WHERE id = ?;
