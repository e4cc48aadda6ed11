package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/outbox"
)

// naiveCursor is a relay that remembers the highest id it has seen.
type naiveCursor struct{ last int64 }

func (c *naiveCursor) read(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT id, keys FROM cache_outbox.events WHERE id > $1 ORDER BY id", c.last)
	require.NoError(t, err)
	var all, keys []string
	_, err = pgx.ForEachRow(rows, []any{&c.last, &keys}, func() error {
		all = append(all, keys...)
		return nil
	})
	require.NoError(t, err)
	return all
}

// Anomaly 21: id 2 commits first, the relay passes it, id 1 commits.
func TestOutboxDeliversAnIDThatCommitsAfterAHigherOne(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	db.ready(t)
	var naive naiveCursor
	naive.read(t, db.conn)

	first, err := db.server.Conn(t, db.name).Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, outbox.Enqueue(t.Context(), first, "k:1"))
	db.enqueue(t, "k:2")
	require.Equal(t, []string{"k:2"}, naive.read(t, db.conn))
	db.sink.settle(t, db.conn)
	require.True(t, db.sink.has("k:2"))
	require.False(t, db.sink.has("k:1"), "what is not committed is not delivered")

	require.NoError(t, first.Commit(t.Context()))
	assert.Empty(t, naive.read(t, db.conn), "the naive cursor never sees id 1")
	db.sink.await(t, "k:1 is delivered", func() bool { return db.sink.has("k:1") })
	db.sink.settle(t, db.conn)
	assert.Equal(t, []string{"k:*"}, db.sink.purged(), "only the first start purges")
}

func TestOutboxDeliversEverythingThatConcurrentWritersCommit(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	db.ready(t)
	const writers, each = 8, 600
	want := make([][]string, writers)
	var wg sync.WaitGroup
	for w := range writers {
		conn := db.server.Conn(t, db.name)
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range each {
				key := fmt.Sprintf("k:%d:%d", w, i)
				tx, err := conn.Begin(t.Context())
				if !assert.NoError(t, err) || !assert.NoError(t, outbox.Enqueue(t.Context(), tx, key)) {
					return
				}
				if random.IntN(10) == 0 {
					_ = tx.Rollback(t.Context())
					continue
				}
				_, err = tx.Exec(t.Context(), "SELECT pg_sleep($1)", random.Float64()*0.003) // let others pass
				if !assert.NoError(t, err) || !assert.NoError(t, tx.Commit(t.Context())) {
					return
				}
				want[w] = append(want[w], key)
			}
		})
	}
	wg.Wait()
	db.sink.settle(t, db.conn)
	committed := 0
	for _, keys := range want {
		assert.Empty(t, db.sink.missing(keys))
		committed += len(keys)
	}
	db.sink.mu.Lock()
	defer db.sink.mu.Unlock()
	assert.Len(t, db.sink.keys, committed, "what was rolled back is not delivered")
	for key, times := range db.sink.keys {
		assert.Equal(t, 1, times, key)
	}
}

// Anomalies 17 and 18: the application dies between its commit and its delete, or the delete fails, while no relay runs.
func TestOutboxDeliversWhatWasEnqueuedWhileItWasDown(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	stop := db.ready(t)
	open, err := db.server.Conn(t, db.name).Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, outbox.Enqueue(t.Context(), open, "k:open"))
	require.ErrorIs(t, stop(), context.Canceled)

	db.enqueue(t, "k:1", "k:2")
	require.NoError(t, open.Commit(t.Context()))
	db.enqueue(t, "k:3")
	require.False(t, db.sink.has("k:1"))

	runOutbox(t, db.config())
	db.sink.settle(t, db.conn)
	assert.Empty(t, db.sink.missing([]string{"k:1", "k:2", "k:3", "k:open"}))
	assert.Equal(t, []string{"k:*"}, db.sink.purged())
}

func TestOutboxGoesOnInTheMiddleOfABacklog(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.NewPostgres(t)) // others hold the flush back that a position waits for
	stop := db.ready(t)
	_ = stop()
	const rows = 100_000
	_, err := db.conn.Exec(t.Context(), "DO $$ BEGIN FOR i IN 1.."+strconv.Itoa(rows)+" LOOP PERFORM cache_outbox.enqueue('k:' || i); IF i % 1000 = 0 THEN COMMIT; END IF; END LOOP; END $$")
	require.NoError(t, err)

	// The relay dies when half of it is done.
	delivered := 0
	db.sink.before = func(b invalidation.Batch) error {
		if delivered >= rows/2 {
			return invalidation.Fatal(errors.New("killed"))
		}
		delivered += len(b.Keys)
		db.flush(t) // a position waits for it
		return nil
	}
	source, err := outbox.NewPostgres(db.config())
	require.NoError(t, err)
	require.ErrorIs(t, runToItsEnd(t, source), invalidation.ErrFatal)
	require.Less(t, delivered, rows*3/4)
	require.Contains(t, outboxFields(t, db.sink.position()), "after", "the position has a cursor")

	again := 0
	db.sink.before = func(b invalidation.Batch) error {
		again += len(b.Keys)
		return nil
	}
	runOutbox(t, db.config())
	db.sink.settle(t, db.conn)
	db.sink.mu.Lock()
	defer db.sink.mu.Unlock()
	assert.Len(t, db.sink.keys, rows)
	assert.Less(t, again, rows*3/4, "it does not begin again")
	t.Logf("%d delivered by the first relay, %d by the second", delivered, again)
}

func TestOutboxDeliversALargeTransactionThatCommitsLate(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	large, err := db.server.Conn(t, db.name).Begin(t.Context())
	require.NoError(t, err)
	_, err = large.Exec(t.Context(), "SELECT cache_outbox.enqueue('k:0')")
	require.NoError(t, err)
	db.ready(t)
	db.enqueue(t, "k:after")
	db.sink.settle(t, db.conn)

	const rows = 20_000
	_, err = large.Exec(t.Context(), "SELECT cache_outbox.enqueue('k:' || i) FROM generate_series(1, $1) AS i", rows)
	require.NoError(t, err)
	lists := make([]string, 2500)
	for i := range lists {
		lists[i] = fmt.Sprintf("k:list:%d", i)
	}
	require.NoError(t, outbox.Enqueue(t.Context(), large, lists...))
	require.NoError(t, large.Commit(t.Context()))
	db.sink.settle(t, db.conn)
	assert.Empty(t, db.sink.missing(lists))
	db.sink.mu.Lock()
	defer db.sink.mu.Unlock()
	assert.Len(t, db.sink.keys, rows+2+len(lists))
}

func TestOutboxFromNowReadsOnlyWhatIsNew(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	db.enqueue(t, "k:old")
	cfg := db.config()
	cfg.FromNow, cfg.Purge = true, nil
	runOutbox(t, cfg)
	db.events.await(t, invalidation.Advanced, 0)
	db.enqueue(t, "k:new")
	db.sink.await(t, "k:new is delivered", func() bool { return db.sink.has("k:new") })
	assert.False(t, db.sink.has("k:old"))
	assert.Empty(t, db.sink.purged())
}
