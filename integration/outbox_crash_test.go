package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// Anomaly 50: the relay has seen transactions whose WAL was not flushed, Postgres crashes, and their ids are given out again.
func TestOutboxSurvivesTransactionIDsThatAreGivenOutAgain(t *testing.T) {
	t.Parallel()
	// Nobody flushes WAL but the relay, when it looks again and a position has waited for a second.
	server := servers.NewPostgres(t, "-c", "synchronous_commit=off", "-c", "wal_writer_delay=10s", "-c", "wal_writer_flush_after=1GB",
		"-c", "autovacuum=off", "-c", "checkpoint_timeout=1h")
	db := newOutboxDB(t, server)
	stop := db.ready(t)
	db.sink.settle(t, db.conn) // which needs the relay to force a flush
	_ = stop()
	_, err := db.conn.Exec(t.Context(), "CHECKPOINT")
	require.NoError(t, err)
	remembered := db.sink.position()

	const transactions = 40
	before, after := make([]string, transactions), make([]string, transactions)
	for i := range transactions {
		before[i], after[i] = fmt.Sprintf("k:before:%d", i), fmt.Sprintf("k:after:%d", i)
		db.enqueue(t, before[i])
	}
	var snapshot string
	require.NoError(t, db.conn.QueryRow(t.Context(), "SELECT pg_current_snapshot()").Scan(&snapshot))
	naive := outboxWith(t, remembered, map[string]any{"snapshot": snapshot})
	slow := db.config()
	slow.Poll = 4 * time.Second // it looks once before the crash, and not again
	runOutbox(t, slow)
	db.sink.await(t, "they are delivered before they are on disk", func() bool { return db.sink.has(before...) })
	server.Kill(t)
	db.events.await(t, invalidation.Waiting, 0)
	assert.NotEqual(t, snapshot, outboxSnapshot(t, db.sink.position()), "the position waits for the disk")

	working := db.events.count(invalidation.Working)
	server.Start(t)
	conn := server.Conn(t, db.name)
	var rows int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM cache_outbox.events").Scan(&rows))
	require.Less(t, rows, transactions, "the crash lost what was not on disk")
	for _, key := range after {
		outboxEnqueue(t, conn, key)
	}
	db.events.await(t, invalidation.Working, working)
	db.sink.settle(t, conn)
	assert.Empty(t, db.sink.missing(after), "every row that is committed is delivered")
	assert.Equal(t, []string{"k:*"}, db.sink.purged(), "and nothing had to be purged for it")

	t.Run("naive: remember a snapshot at once", func(t *testing.T) {
		again := *db
		again.sink, again.events = newOutboxSink(), newEvents()
		again.sink.remember(naive)
		runOutbox(t, again.config())
		again.sink.settle(t, conn)
		assert.NotEmpty(t, again.sink.missing(after), "rows with ids below the remembered ones are taken for old")
		t.Logf("%d of %d delivered", transactions-len(again.sink.missing(after)), transactions)
	})
}

func TestOutboxRefusesAStandbyAndPurgesAfterItsPromotion(t *testing.T) {
	t.Parallel()
	server := servers.NewPostgres(t)
	db := newOutboxDB(t, server)
	stop := db.ready(t)
	db.sink.settle(t, db.conn)
	_ = stop()
	server.Exec(t, "sh", "-c", `touch "$PGDATA/standby.signal"`)
	server.Stop(t)
	server.Start(t)

	err := runToItsEnd(t, db.source(t))
	require.ErrorIs(t, err, invalidation.ErrFatal)
	assert.Contains(t, err.Error(), "name the primary in hosts")

	conn := server.Conn(t, db.name)
	_, err = conn.Exec(t.Context(), "SELECT pg_promote()")
	require.NoError(t, err)
	db.ready(t)
	db.events.await(t, invalidation.Lost, 1)
	db.sink.await(t, "it purges", func() bool { return len(db.sink.purged()) == 2 })
	outboxEnqueue(t, conn, "k:new")
	db.sink.await(t, "and goes on", func() bool { return db.sink.has("k:new") })
}
