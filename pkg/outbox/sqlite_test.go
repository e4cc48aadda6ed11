package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver

	"github.com/seed-038af1a6/invalidator/migrations"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func openSQLite(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func newSQLite(t *testing.T) *sql.DB {
	t.Helper()
	db := openSQLite(t, filepath.Join(t.TempDir(), "app.db"))
	_, err := migrations.UpSQLite(t.Context(), db)
	require.NoError(t, err)
	return db
}

func enqueueSQLite(t *testing.T, db *sql.DB, keys ...string) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, EnqueueSQLite(t.Context(), tx, keys...))
	require.NoError(t, tx.Commit())
}

type kinds struct {
	mu   sync.Mutex
	list []invalidation.Event
}

func (k *kinds) Observe(e invalidation.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = append(k.list, e)
}

func (k *kinds) has(kind invalidation.Kind) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.list {
		if e.Kind == kind {
			return true
		}
	}
	return false
}

// runSQLite runs a source until stop is called, which returns Run's error.
func runSQLite(t *testing.T, cfg SQLiteConfig) (stop func() error) {
	t.Helper()
	cfg.Purge, cfg.Poll = []string{"k:*"}, time.Millisecond
	source, err := NewSQLite(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx) }()
	var once sync.Once
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-done
		})
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

func TestSQLiteIsRelayedAndResumed(t *testing.T) {
	t.Parallel()
	db, sink := newSQLite(t), newMemorySink()
	enqueueSQLite(t, db, "before:1")
	stop := runSQLite(t, SQLiteConfig{DB: db, Sink: sink})
	sink.await(t, "the purge, and the row that no glob covers", func() bool {
		return len(sink.patterns) == 1 && len(sink.keys) == 1 && sink.stored != ""
	})
	enqueueSQLite(t, db, "k:1", `k:"2"`, "k:ключ", "k:1")
	sink.await(t, "delivery", func() bool { return len(sink.keys) == 4 })
	sink.await(t, "the position", func() bool { return sink.stored == sink.applied })
	require.ErrorIs(t, stop(), context.Canceled)

	var many []string
	for i := range chunkRows + 10 {
		many = append(many, fmt.Sprint("k:many:", i))
	}
	enqueueSQLite(t, db, many...)
	runSQLite(t, SQLiteConfig{DB: db, Sink: sink})
	sink.await(t, "what was enqueued while it was down", func() bool { return len(sink.keys) == 4+len(many) })
	sink.mu.Lock()
	defer sink.mu.Unlock()
	assert.Equal(t, append([]string{"before:1", "k:1", `k:"2"`, "k:ключ"}, many...), sink.keys)
	assert.Equal(t, []string{"k:*"}, sink.patterns)
}

func TestSQLiteNoticesAnotherDatabase(t *testing.T) {
	t.Parallel()
	db, sink := newSQLite(t), newMemorySink()
	stop := runSQLite(t, SQLiteConfig{DB: db, Sink: sink})
	sink.await(t, "the purge", func() bool { return sink.stored != "" })
	enqueueSQLite(t, db, "k:1")
	sink.await(t, "the position", func() bool { return len(sink.keys) == 1 && sink.stored == sink.applied })
	_ = stop()
	good := sink.stored

	t.Run("a new file", func(t *testing.T) {
		t.Parallel()
		sink := newMemorySink()
		sink.stored = good
		runSQLite(t, SQLiteConfig{DB: newSQLite(t), Sink: sink})
		sink.await(t, "the purge", func() bool { return len(sink.patterns) == 1 })
	})
	t.Run("a backup", func(t *testing.T) {
		t.Parallel()
		copied := filepath.Join(t.TempDir(), "copy.db")
		_, err := db.ExecContext(t.Context(), "VACUUM INTO ?", copied)
		require.NoError(t, err)
		old := openSQLite(t, copied)
		// The row of the position never was, and its id goes to another one.
		_, err = old.ExecContext(t.Context(), "DELETE FROM cache_outbox_events; DELETE FROM sqlite_sequence WHERE name = 'cache_outbox_events'")
		require.NoError(t, err)
		enqueueSQLite(t, old, "k:other")
		sink := newMemorySink()
		sink.stored = good
		runSQLite(t, SQLiteConfig{DB: old, Sink: sink})
		sink.await(t, "the purge", func() bool { return len(sink.patterns) == 1 })
	})
}

func TestSQLitePrunesWhatIsAppliedAndOld(t *testing.T) {
	t.Parallel()
	db, sink, events := newSQLite(t), newMemorySink(), &kinds{}
	stop := runSQLite(t, SQLiteConfig{DB: db, Sink: sink, Retention: time.Nanosecond, Observer: events})
	sink.await(t, "the purge", func() bool { return sink.stored != "" })
	old := sink.stored
	enqueueSQLite(t, db, "k:1", "k:2", "k:3")
	sink.await(t, "pruning", func() bool { return events.has(invalidation.Pruned) })
	_ = stop()
	var rows, first int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*), min(id) FROM cache_outbox_events").Scan(&rows, &first))
	assert.Equal(t, []int{1, 3}, []int{rows, first}, "the row of the position stays")

	sink.stored = old
	runSQLite(t, SQLiteConfig{DB: db, Sink: sink})
	sink.await(t, "the purge of a cache that went back too far", func() bool { return len(sink.patterns) == 2 })
}

func TestRunReturnsWhatTheSinkSays(t *testing.T) {
	t.Parallel()
	for _, want := range []error{invalidation.ErrResume, invalidation.Fatal(errors.New("the password is wrong"))} {
		sink := newMemorySink()
		sink.fail = want
		source, err := NewSQLite(SQLiteConfig{DB: newSQLite(t), Sink: sink, Purge: []string{"k:*"}})
		require.NoError(t, err)
		require.ErrorIs(t, source.Run(t.Context()), want)
	}
}

func TestSQLiteWithoutTheSchemaSaysWhatToDo(t *testing.T) {
	t.Parallel()
	db := openSQLite(t, filepath.Join(t.TempDir(), "empty.db"))
	source, err := NewSQLite(SQLiteConfig{DB: db, Sink: newMemorySink(), Purge: []string{"k:*"}})
	require.NoError(t, err)
	err = source.Run(t.Context())
	require.ErrorIs(t, err, invalidation.ErrFatal)
	require.ErrorContains(t, err, `run "invalidator migrate up"`)

	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer tx.Rollback()
	require.ErrorContains(t, EnqueueSQLite(t.Context(), tx, "k"), `run "invalidator migrate up"`)
}

func TestSQLiteSchemaComesAndGoes(t *testing.T) {
	t.Parallel()
	db := newSQLite(t)
	name, err := migrations.DownSQLite(t.Context(), db)
	require.NoError(t, err)
	assert.Equal(t, "00001_outbox.sql", name)
	var left int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'cache%'").Scan(&left))
	assert.Zero(t, left)
}
