-- +goose Up
-- AUTOINCREMENT: an id is never given out twice, also after its row was pruned. The token tells a row from another one with
-- the same id in a database that went back in time, because a backup was restored or the power failed.
CREATE TABLE cache_outbox_events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    key        TEXT    NOT NULL CHECK (key <> ''),
    token      TEXT    NOT NULL DEFAULT (lower(hex(randomblob(8)))),
    created_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)) -- Unix time in milliseconds
);

-- Every row below pruned_below may be gone.
CREATE TABLE cache_outbox_state (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    identity     TEXT    NOT NULL,
    pruned_below INTEGER NOT NULL
);
INSERT INTO cache_outbox_state (one, identity, pruned_below) VALUES (1, lower(hex(randomblob(16))), 0);

-- +goose Down
DROP TABLE cache_outbox_state;
DROP TABLE cache_outbox_events;
