-- +goose Up
CREATE TABLE cache_outbox.events (
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    txid       xid8        NOT NULL DEFAULT pg_current_xact_id(),
    keys       text[]      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (txid, id)
) WITH (
    -- A queue: rows come at one end of the index and go at the other, and none is ever updated. The sizes are absolute,
    -- because a share of the table means nothing here: it is the pruned rows that count, and the statistics of the newest.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE cache_outbox.events IS 'Cache keys that became stale, one row for each call of cache_outbox.enqueue. Written in the transaction that changes the data, read by the relay.';

-- Every row below pruned_below may be gone. A relay whose position is older than that starts anew.
CREATE TABLE cache_outbox.state (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    pruned_below xid8    NOT NULL
);
INSERT INTO cache_outbox.state (pruned_below) VALUES ('0');

-- Neither table is for the public: keys can be personal data. Every role may enqueue, though, so the function runs with the
-- rights of its owner (SECURITY DEFINER). A service without the right would either fail its own transactions or, worse, go
-- without, and its changes would never reach the cache. All that a caller can do with it is have keys deleted from the cache,
-- which costs a reload. To allow fewer roles: REVOKE EXECUTE ON FUNCTION cache_outbox.enqueue(text[]) FROM PUBLIC.
-- The search_path is fixed, and every name below is qualified or from pg_catalog, so that no caller can slip in a table, a
-- function or an operator of its own; pg_temp stands last, or it would be searched first.
-- +goose StatementBegin
CREATE FUNCTION cache_outbox.enqueue(VARIADIC keys text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF keys IS NULL OR cardinality(keys) = 0 THEN
        RETURN;
    END IF;
    IF array_ndims(keys) > 1 THEN
        RAISE EXCEPTION 'cache_outbox.enqueue: the keys are an array of more than one dimension'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass a plain list of keys.';
    END IF;
    IF array_position(keys, NULL) IS NOT NULL OR '' = ANY (keys) THEN
        RAISE EXCEPTION 'cache_outbox.enqueue: a key is NULL or empty'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave out keys that do not exist, for example with coalesce or array_remove.';
    END IF;
    IF cardinality(keys) <= 1000 THEN
        INSERT INTO cache_outbox.events (keys) VALUES (keys);
        RETURN;
    END IF;
    -- The relay's memory is bounded by the size of a row, so a long list becomes several rows.
    INSERT INTO cache_outbox.events (keys)
        SELECT enqueue.keys[i:i + 999] FROM generate_series(array_lower(keys, 1), array_upper(keys, 1), 1000) AS i;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION cache_outbox.enqueue(text[]) IS 'Has the given cache keys deleted once this transaction commits.';

GRANT USAGE ON SCHEMA cache_outbox TO PUBLIC;
GRANT EXECUTE ON FUNCTION cache_outbox.enqueue(text[]) TO PUBLIC;

-- +goose Down
DROP FUNCTION cache_outbox.enqueue(text[]);
DROP TABLE cache_outbox.state;
DROP TABLE cache_outbox.events;
