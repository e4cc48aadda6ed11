package integration

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/migrations"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/outbox"
)

// outboxPatience is how long a test waits for what has to come.
const outboxPatience = 30 * time.Second

// outboxSink is a Sink in memory. Like the one for Redis it stores a position with the call after the one that brought it.
type outboxSink struct {
	mu       sync.Mutex
	stored   string
	applied  string
	keys     map[string]int
	patterns []string
	calls    int
	more     chan struct{}
	before   func(invalidation.Batch) error // runs before a batch is applied
}

func newOutboxSink() *outboxSink {
	return &outboxSink{keys: map[string]int{}, more: make(chan struct{}, 1)}
}

func (s *outboxSink) Positions(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = s.stored
	return []string{s.stored}, nil
}

func (s *outboxSink) Stored() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []string{s.stored}
}

func (s *outboxSink) Apply(ctx context.Context, b invalidation.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before != nil {
		if err := s.before(b); err != nil {
			return err
		}
	}
	s.calls++
	s.stored = s.applied
	for _, key := range b.Keys {
		s.keys[key]++
	}
	s.patterns = append(s.patterns, b.Patterns...)
	if b.Position != "" {
		s.applied = b.Position
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
	return ctx.Err()
}

// remember makes the cache remember another position.
func (s *outboxSink) remember(position string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = position
}

// forget takes back that a key was deleted.
func (s *outboxSink) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, key)
}

func (s *outboxSink) position() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored
}

func (s *outboxSink) has(keys ...string) bool { return len(s.missing(keys)) == 0 }

func (s *outboxSink) missing(keys []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var missing []string
	for _, key := range keys {
		if s.keys[key] == 0 {
			missing = append(missing, key)
		}
	}
	return missing
}

func (s *outboxSink) purged() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.patterns...)
}

// await waits until the condition holds, looking at every call of the sink.
func (s *outboxSink) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(outboxPatience)
	defer deadline.Stop()
	for !holds() {
		select {
		case <-s.more:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", outboxPatience, what)
		}
	}
}

// settle waits until everything that was committed so far is behind the stored position.
func (s *outboxSink) settle(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var id uint64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_current_xact_id()").Scan(&id)) // ended as it returns
	s.await(t, "the stored position sees the last transaction", func() bool {
		var seen bool
		snapshot := outboxSnapshot(t, s.position())
		if snapshot == "" {
			return false
		}
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_visible_in_snapshot($1, $2::text::pg_snapshot)", id, snapshot).Scan(&seen))
		return seen
	})
}

// outboxSnapshot returns the snapshot in a position.
func outboxSnapshot(t *testing.T, position string) string {
	t.Helper()
	if position == "" {
		return ""
	}
	snapshot, ok := outboxFields(t, position)["snapshot"].(string)
	require.True(t, ok)
	return snapshot
}

func outboxFields(t *testing.T, position string) map[string]any {
	t.Helper()
	fields := map[string]any{}
	require.NoError(t, json.Unmarshal([]byte(position), &fields))
	return fields
}

// outboxWith returns the position with some fields changed.
func outboxWith(t *testing.T, position string, changes map[string]any) string {
	t.Helper()
	fields := outboxFields(t, position)
	maps.Copy(fields, changes)
	text, err := json.Marshal(fields)
	require.NoError(t, err)
	return string(text)
}

// outboxDB is a database with the outbox, a sink, and what the source reports.
type outboxDB struct {
	server *servers.PostgresServer
	name   string
	dsn    string
	conn   *pgx.Conn
	sink   *outboxSink
	events *events
}

func newOutboxDB(t *testing.T, server *servers.PostgresServer) *outboxDB {
	t.Helper()
	name, dsn := server.Database(t)
	_, err := migrations.Up(t.Context(), outboxSQL(t, dsn))
	require.NoError(t, err)
	return &outboxDB{server: server, name: name, dsn: dsn, conn: server.Conn(t, name), sink: newOutboxSink(), events: newEvents()}
}

func (d *outboxDB) config() outbox.PostgresConfig {
	return outbox.PostgresConfig{
		Hosts: []string{d.server.Addr()}, User: d.server.User(), Password: d.server.Password(), Database: d.name,
		Sink: d.sink, Purge: []string{"k:*"}, Poll: 5 * time.Millisecond, Observer: d.events,
	}
}

// run starts a source. stop ends it and returns what Run returned; the test's end stops it too.
func runOutbox(t *testing.T, cfg outbox.PostgresConfig) (stop func() error) {
	t.Helper()
	source, err := outbox.NewPostgres(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for err = invalidation.ErrResume; errors.Is(err, invalidation.ErrResume); {
			err = source.Run(ctx)
		}
	}()
	stop = func() error {
		cancel()
		<-done
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

// ready starts a source and waits until it has purged and goes on from there.
func (d *outboxDB) ready(t *testing.T) (stop func() error) {
	t.Helper()
	stop = runOutbox(t, d.config())
	d.sink.await(t, "the first position is stored", func() bool { return d.sink.position() != "" })
	return stop
}

// enqueue commits one transaction.
func (d *outboxDB) enqueue(t *testing.T, keys ...string) {
	t.Helper()
	outboxEnqueue(t, d.conn, keys...)
}

// flush has the server write to disk what it keeps of the WAL in memory.
func (d *outboxDB) flush(t *testing.T) {
	t.Helper()
	_, err := d.conn.Exec(t.Context(), "SELECT pg_logical_emit_message(true, 'test', '')") // its commit does
	require.NoError(t, err)
}

func outboxEnqueue(t *testing.T, conn *pgx.Conn, keys ...string) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		return outbox.Enqueue(t.Context(), tx, keys...)
	}))
}
