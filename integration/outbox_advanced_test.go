package integration

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func TestOutboxTellsWhatItApplied(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	db.ready(t)
	before := time.Now().Add(-time.Second)
	tx, err := db.conn.Begin(t.Context())
	require.NoError(t, err)
	for range 2 {
		_, err := tx.Exec(t.Context(), "SELECT cache_outbox.enqueue('k:1', 'k:2')")
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit(t.Context()))

	got := db.events.firstWithKeys(t)
	assert.Equal(t, 2, got.Count, "rows")
	assert.Equal(t, 2, got.Keys)
	assert.Equal(t, 2, got.Coalesced)
	assert.False(t, got.Idle)
	assert.WithinRange(t, got.Oldest, before, got.At)
	assert.WithinRange(t, got.At, before, time.Now().Add(time.Second))
}

func TestIdleOutboxSaysSoAFewTimesASecond(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	db.ready(t)
	db.events.awaitAny(t, "it is idle", func() bool { return db.events.idle() > 0 })
	first, started := db.events.idle(), time.Now()
	db.events.awaitAny(t, "it says so again", func() bool { return db.events.idle() >= first+5 })
	each := time.Since(started) / 5
	assert.Less(t, each, 1200*time.Millisecond)
	assert.Greater(t, each, 200*time.Millisecond)
}

// retaining is a Sink for a cache of several masters, which may hold positions back.
type retaining struct {
	*outboxSink

	mu     sync.Mutex
	stored []string
}

func (s *retaining) Stored() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored
}

func (s *retaining) tell(stored ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = stored
}

func TestOutboxPrunesBelowTheOldestPositionThatIsStored(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.NewPostgres(t))
	sink := &retaining{outboxSink: db.sink, stored: []string{""}}
	cfg := db.config()
	cfg.Sink, cfg.Retention = sink, time.Millisecond
	runOutbox(t, cfg)
	db.sink.await(t, "the first position is stored", func() bool { return db.sink.position() != "" })
	db.enqueue(t, "k:1")
	db.sink.settle(t, db.conn)
	behindOne := db.sink.position()
	db.enqueue(t, "k:2")
	db.sink.settle(t, db.conn)

	sink.tell(db.sink.position(), "")
	looks := func() { // the pruner looks once a second
		t.Helper()
		idle := db.events.idle()
		db.events.awaitAny(t, "time passes", func() bool { return db.events.idle() > idle+4 })
	}
	looks()
	assert.Zero(t, db.events.count(invalidation.Pruned), "a master that remembers nothing may need every row")
	assert.Zero(t, db.events.count(invalidation.Noted), "which is nothing to complain about")

	// The server went back in time: a start would read every row.
	sink.tell(outboxWith(t, db.sink.position(), map[string]any{"lsn": "FFFFFF/0"}))
	looks()
	assert.Zero(t, db.events.count(invalidation.Pruned), "what a start can not go on from has passed nothing")

	sink.tell(behindOne, db.sink.position())
	db.events.await(t, invalidation.Pruned, 0)
	looks()
	assert.Equal(t, []string{"k:2"}, remaining(t, db.conn))
}

// anonymousSink is a Sink that has no more than it must.
type anonymousSink struct{ invalidation.Sink }

func TestOutboxOfASinkThatDoesNotTellIsNotPrunedAndSaysSo(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	cfg := db.config()
	cfg.Sink, cfg.Retention = anonymousSink{db.sink}, time.Millisecond
	runOutbox(t, cfg)
	db.enqueue(t, "k:1")
	db.events.await(t, invalidation.Noted, 0)
	assert.Contains(t, db.events.all(invalidation.Noted)[0].Text, "Stored() []string")
	assert.Equal(t, []string{"k:1"}, remaining(t, db.conn))
}
