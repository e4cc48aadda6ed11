package integration

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/binlog"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// mysqlLog is a watched table, a sink in memory, and what is needed for a Source between them.
type mysqlLog struct {
	server *servers.MySQLServer
	schema string
	db     *sql.DB
	sink   *outboxSink
	seen   *events
	config binlog.Config
}

// newMySQLLog makes a table users (id, name, email) that is mapped to "user:{id}" and "user:email:{email}".
func newMySQLLog(t *testing.T, server *servers.MySQLServer) *mysqlLog {
	t.Helper()
	l := &mysqlLog{server: server, sink: newOutboxSink(), seen: newEvents()}
	l.schema, l.db = server.Database(t)
	l.exec(t, "CREATE TABLE users (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(50), email VARCHAR(100))")
	l.config = binlog.Config{
		Name: "shop", Hosts: []string{server.Addr()}, User: server.User(), Password: server.Password(),
		Mapper: mysqlRules(t, l.schema+".users", "user:{id}", "user:email:{email}"), Sink: l.sink, Observer: l.seen,
	}
	return l
}

func mysqlRules(t *testing.T, table string, keys ...string) *invalidation.Rules {
	t.Helper()
	rules, err := invalidation.NewRules([]invalidation.Rule{{Table: table, Keys: keys}})
	require.NoError(t, err)
	return rules
}

func (l *mysqlLog) exec(t *testing.T, queries ...string) {
	t.Helper()
	for _, query := range queries {
		_, err := l.db.ExecContext(t.Context(), query)
		require.NoError(t, err, query)
	}
}

func (l *mysqlLog) source(t *testing.T) *binlog.Source {
	t.Helper()
	source, err := binlog.New(l.config)
	require.NoError(t, err)
	return source
}

// run starts a Source and waits until it reads. The test's end stops it.
func (l *mysqlLog) run(t *testing.T) *binlog.Source {
	t.Helper()
	source := l.source(t)
	working := l.seen.count(invalidation.Working)
	runSource(t, source)
	l.seen.await(t, invalidation.Working, working)
	return source
}

// runSource runs a source as a supervisor does. stop ends it and returns what Run returned.
func runSource(t *testing.T, source interface {
	Run(ctx context.Context) error
},
) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		err := invalidation.ErrResume
		for errors.Is(err, invalidation.ErrResume) && ctx.Err() == nil {
			err = source.Run(ctx)
		}
		done <- err
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// settle waits until what is committed now is behind the stored position.
func (l *mysqlLog) settle(t *testing.T) string {
	t.Helper()
	var executed string
	require.NoError(t, l.db.QueryRowContext(t.Context(), "SELECT @@global.gtid_executed").Scan(&executed))
	executed = strings.ReplaceAll(executed, "\n", "")
	l.sink.await(t, "the stored position has what is executed", func() bool {
		position := l.sink.position()
		if position == "" {
			return false
		}
		var covered bool
		require.NoError(t, l.db.QueryRowContext(t.Context(), "SELECT GTID_SUBSET(?, ?)", executed, outboxFields(t, position)["gtids"]).Scan(&covered))
		return covered
	})
	return l.sink.position()
}

// all returns the events of a kind.
func (e *events) all(kind invalidation.Kind) []invalidation.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []invalidation.Event
	for _, event := range e.list {
		if event.Kind == kind {
			found = append(found, event)
		}
	}
	return found
}

// idle returns how often a source said that its log holds nothing more.
func (e *events) idle() int {
	n := 0
	for _, event := range e.all(invalidation.Advanced) {
		if event.Idle {
			n++
		}
	}
	return n
}

// awaitAny waits until the condition holds, looking at every event.
func (e *events) awaitAny(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(outboxPatience)
	defer deadline.Stop()
	for !holds() {
		select {
		case <-e.more:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", outboxPatience, what)
		}
	}
}

// firstWithKeys waits for the first batch that had keys.
func (e *events) firstWithKeys(t *testing.T) (got invalidation.Event) {
	t.Helper()
	e.awaitAny(t, "a batch with keys", func() bool {
		advanced := e.all(invalidation.Advanced)
		at := slices.IndexFunc(advanced, func(event invalidation.Event) bool { return event.Keys > 0 })
		if at >= 0 {
			got = advanced[at]
		}
		return at >= 0
	})
	return got
}

// gaps records how long a sink goes without a call, from last on.
type gaps struct {
	mu      sync.Mutex
	last    time.Time
	longest time.Duration
}

func (g *gaps) call(invalidation.Batch) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.longest, g.last = max(g.longest, now.Sub(g.last)), now
	return nil
}

// max includes the time since the last call.
func (g *gaps) max() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(g.longest, time.Since(g.last))
}
