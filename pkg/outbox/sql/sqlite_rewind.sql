-- The row behind which those since ?1 (Unix time in milliseconds) begin, and whether a row before it was pruned.
SELECT coalesce(before.id, 0), coalesce(before.token, ''), before.id IS NULL AND s.pruned_below > 0
FROM cache_outbox_state s LEFT JOIN (
    SELECT id, token FROM cache_outbox_events
    WHERE id < coalesce((SELECT min(id) FROM cache_outbox_events WHERE created_at >= ?1), 9223372036854775807)
    ORDER BY id DESC LIMIT 1
) before ON true;
