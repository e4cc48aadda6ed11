SELECT extract(epoch FROM now() - created_at)::float8 FROM cache_outbox.events ORDER BY txid, id LIMIT 1;
