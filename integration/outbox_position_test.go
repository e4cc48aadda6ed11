package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/outbox"
)

func (d *outboxDB) source(t *testing.T) *outbox.Source {
	t.Helper()
	source, err := outbox.NewPostgres(d.config())
	require.NoError(t, err)
	return source
}

func TestOutboxKnowsItsServer(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	var want string
	require.NoError(t, db.conn.QueryRow(t.Context(), "SELECT format('%s/%s', system_identifier, oid) FROM pg_control_system(), pg_database WHERE datname = current_database()").Scan(&want))
	id, err := db.source(t).Identity(t.Context())
	require.NoError(t, err)
	assert.Equal(t, want, id)

	cfg := db.config()
	cfg.Password, cfg.User = "s3cr3t-wrong", "nobody_here"
	source, err := outbox.NewPostgres(cfg)
	require.NoError(t, err)
	_, err = source.Identity(t.Context())
	require.ErrorIs(t, err, invalidation.ErrFatal)
	assert.NotContains(t, err.Error(), "s3cr3t")
	assert.NotContains(t, err.Error(), "\n")
}

func TestOutboxBeginsWhereItIsToldNowIs(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.NewPostgres(t, "-c", "synchronous_commit=off", "-c", "wal_writer_delay=10s"))
	open, err := db.server.Conn(t, db.name).Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, outbox.Enqueue(t.Context(), open, "k:open"))
	db.enqueue(t, "k:before")
	now, err := db.source(t).Now(t.Context())
	require.NoError(t, err)
	db.enqueue(t, "k:after")
	require.NoError(t, open.Commit(t.Context()))

	require.NoError(t, db.source(t).CheckPosition(now))
	again, err := db.source(t).CompletePosition(t.Context(), now, nil)
	require.NoError(t, err)
	assert.JSONEq(t, now, again)
	db.sink.remember(now)
	runOutbox(t, db.config())
	db.sink.await(t, "what committed later is read", func() bool { return db.sink.has("k:after", "k:open") })
	assert.False(t, db.sink.has("k:before"))
	assert.Empty(t, db.sink.purged())
}

// age makes every row that is there older.
func (d *outboxDB) age(t *testing.T, by string) {
	t.Helper()
	_, err := d.conn.Exec(t.Context(), "UPDATE cache_outbox.events SET created_at = created_at - $1::text::interval", by)
	require.NoError(t, err)
}

func TestOutboxRewindReadsTheRowsOfThatTimeAgain(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	db.enqueue(t, "k:ancient")
	db.age(t, "3 hours")
	db.enqueue(t, "k:hour")
	db.age(t, "1 hour")
	db.enqueue(t, "k:new")
	stored, err := db.source(t).Now(t.Context())
	require.NoError(t, err)
	open, err := db.server.Conn(t, db.name).Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, outbox.Enqueue(t.Context(), open, "k:open"))

	rewound, err := db.source(t).Rewind(t.Context(), 2*time.Hour, []string{stored})
	require.NoError(t, err)
	db.sink.remember(rewound)
	stop := runOutbox(t, db.config())
	db.sink.await(t, "the rows of two hours", func() bool { return db.sink.has("k:hour", "k:new") })
	require.NoError(t, open.Commit(t.Context()))
	db.sink.await(t, "a transaction that ran meanwhile", func() bool { return db.sink.has("k:open") })
	assert.False(t, db.sink.has("k:ancient"))
	assert.Empty(t, db.sink.purged())
	_ = stop()

	older, err := db.source(t).Rewind(t.Context(), 10*time.Hour, []string{stored})
	require.NoError(t, err)
	same, err := db.source(t).Rewind(t.Context(), time.Minute, []string{older, stored})
	require.NoError(t, err)
	assert.JSONEq(t, older, same, "never newer than the oldest that is stored")
	fresh, err := db.source(t).Rewind(t.Context(), time.Minute, nil)
	require.NoError(t, err)
	assert.NotEqual(t, older, fresh)
	_, err = db.source(t).Rewind(t.Context(), time.Minute, []string{stored, ""})
	require.ErrorContains(t, err, "remembers no position")
	_, err = db.source(t).Rewind(t.Context(), time.Minute, []string{outboxWith(t, stored, map[string]any{"system": "1"})})
	require.ErrorContains(t, err, "another Postgres")
	_, err = db.source(t).CompletePosition(t.Context(), outboxWith(t, stored, map[string]any{"timeline": "00000099"}), nil)
	require.ErrorContains(t, err, "timeline")

	back, err := db.source(t).CompletePosition(t.Context(), older, []string{stored, older})
	require.NoError(t, err)
	assert.JSONEq(t, older, back)
	_, err = db.source(t).CompletePosition(t.Context(), stored, []string{stored, older})
	require.ErrorContains(t, err, "newer than what the cache remembers")
	_, err = db.source(t).CompletePosition(t.Context(), stored, nil)
	require.NoError(t, err, "no cache was asked")
	_, err = db.source(t).CompletePosition(t.Context(), older, []string{stored, ""})
	require.ErrorContains(t, err, "needs no replay")
	_, err = db.source(t).CompletePosition(t.Context(), older, []string{stored, outboxWith(t, stored, map[string]any{"system": "1"})})
	require.ErrorContains(t, err, "purged anyway")
}

func TestOutboxRewindSaysWhereTheRetentionHasCut(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.NewPostgres(t))
	cfg := db.config()
	cfg.Retention = time.Hour
	db.enqueue(t, "k:ancient")
	db.age(t, "3 hours")
	db.enqueue(t, "k:new")
	stored, err := db.source(t).Now(t.Context())
	require.NoError(t, err)
	_, err = db.conn.Exec(t.Context(), "DELETE FROM cache_outbox.events WHERE keys[1] = 'k:ancient'")
	require.NoError(t, err)
	_, err = db.conn.Exec(t.Context(), "UPDATE cache_outbox.state SET pruned_below = (SELECT min(txid) FROM cache_outbox.events)")
	require.NoError(t, err)

	source, err := outbox.NewPostgres(cfg)
	require.NoError(t, err)
	_, err = source.Rewind(t.Context(), 2*time.Hour, []string{stored})
	require.ErrorContains(t, err, "older rows were pruned")
	require.ErrorContains(t, err, "1h0m0s")
	rewound, err := source.Rewind(t.Context(), 50*time.Minute, []string{stored})
	require.NoError(t, err)
	db.sink.remember(rewound)
	runOutbox(t, cfg)
	db.sink.await(t, "the row that is left", func() bool { return db.sink.has("k:new") })
	assert.Empty(t, db.sink.purged())
}

func TestOutboxLagCountsTheRowsThatWait(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	source := db.source(t)
	lag, err := source.Lag(t.Context())
	require.NoError(t, err)
	assert.Equal(t, outbox.Lag{Transactions: -1, Bytes: -1}, lag)

	held, release := make(chan struct{}), make(chan struct{})
	db.sink.before = func(b invalidation.Batch) error {
		if len(b.Keys) > 0 && b.Keys[0] == "k:held" {
			close(held)
			<-release
		}
		return nil
	}
	stop := runSource(t, source)
	defer func() { _ = stop() }()
	db.sink.await(t, "the first position is stored", func() bool { return db.sink.position() != "" })
	lag, err = source.Lag(t.Context())
	require.NoError(t, err)
	assert.Equal(t, outbox.Lag{}, lag)
	db.enqueue(t, "k:held")
	received(t, held)
	for range 3 {
		db.enqueue(t, "k:1", "k:2")
	}
	lag, err = source.Lag(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(4), lag.Transactions)
	assert.Greater(t, lag.Bytes, int64(100))
	close(release)
	db.events.awaitAny(t, "it caught up", func() bool {
		lag, err = source.Lag(t.Context())
		return err == nil && lag == outbox.Lag{}
	})
}
