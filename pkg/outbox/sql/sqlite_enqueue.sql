INSERT INTO cache_outbox_events (key) SELECT value FROM json_each(?);
