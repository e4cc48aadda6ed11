package integration

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// heartPatience is how long a Sink may go without a call on a machine that has other things to do.
const heartPatience = 1800 * time.Millisecond

func TestBinlogTellsWhatItApplied(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.MySQL(t))
	l.run(t)
	before := time.Now().Add(-time.Second) // the server's clock counts in its own steps
	tx, err := l.db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	for _, query := range []string{"INSERT INTO users VALUES (1, 'a', 'a@x'), (2, 'b', NULL)", "UPDATE users SET name = 'c' WHERE id = 1"} {
		_, err := tx.ExecContext(t.Context(), query)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())

	got := l.seen.firstWithKeys(t)
	assert.Equal(t, 3, got.Keys, "user:1, user:email:a@x, user:2")
	assert.Equal(t, 2, got.Coalesced, "the update names two of them again")
	assert.GreaterOrEqual(t, got.Count, 1)
	assert.WithinRange(t, got.Oldest, before, got.At)
	assert.WithinRange(t, got.At, before, time.Now())
	l.seen.await(t, invalidation.Gated, 0)
	gated := l.seen.all(invalidation.Gated)[0]
	assert.Positive(t, gated.Took)
	assert.Equal(t, invalidation.PartGate, gated.Part)
}

func TestIdleBinlogSaysSoAFewTimesASecond(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	l.run(t)
	l.seen.awaitAny(t, "it is idle", func() bool { return l.seen.idle() > 0 })
	first, started := l.seen.idle(), time.Now()
	l.seen.awaitAny(t, "it says so again", func() bool { return l.seen.idle() >= first+5 })
	each := time.Since(started) / 5
	assert.Less(t, each, 1200*time.Millisecond)
	assert.Greater(t, each, 200*time.Millisecond)
	for _, event := range l.seen.all(invalidation.Advanced) {
		if event.Idle {
			assert.NotEmpty(t, event.Text)
		}
	}

	// A heartbeat proves nothing while the server has executed more than it sent.
	l.exec(t, "SET GLOBAL gtid_purged = '+aaaaaaaa-0000-0000-0000-000000000001:1'")
	var calls atomic.Int32
	l.sink.mu.Lock()
	l.sink.before = func(invalidation.Batch) error { calls.Add(1); return nil }
	l.sink.mu.Unlock()
	l.sink.await(t, "what was on its way came", func() bool { return calls.Load() > 3 })
	idle := l.seen.idle()
	l.sink.await(t, "more heartbeats", func() bool { return calls.Load() > 8 })
	assert.Equal(t, idle, l.seen.idle())
}

func TestBusyBinlogIsNotIdle(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	l.run(t)
	stall(t, l.server, 2*time.Second)
	l.exec(t, "SET GLOBAL rpl_semi_sync_source_enabled = ON")
	committed := make(chan time.Time, 1)
	go func() {
		_, _ = l.db.ExecContext(t.Context(), "INSERT INTO users VALUES (1, 'a', NULL)")
		committed <- time.Now()
	}()
	l.seen.await(t, invalidation.Gated, 0)
	assert.WithinDuration(t, time.Now(), <-committed, time.Second)
	assert.Greater(t, l.seen.all(invalidation.Gated)[0].Took, 500*time.Millisecond, "the gate waited for the replica that is not there")
}

// A failover of the cache while the database is away has to be noticed, too.
func TestSinkHearsEverySecondWhateverMySQLDoes(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		away  func(*testing.T, *mysqlLog)
		want  invalidation.Kind // what is seen when the case has lasted
		times int
	}{
		{"killed", func(t *testing.T, l *mysqlLog) { t.Helper(); l.server.Kill(t) }, invalidation.Waiting, 7},
		{"frozen", func(t *testing.T, l *mysqlLog) { t.Helper(); l.server.Pause(t) }, invalidation.Waiting, 2},
		{"a commit that does not become visible", func(t *testing.T, l *mysqlLog) {
			t.Helper()
			stall(t, l.server, 4*time.Second)
			go func() { _, _ = l.db.ExecContext(t.Context(), "INSERT INTO users VALUES (1, 'a', NULL)") }()
		}, invalidation.Gated, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newMySQLLog(t, servers.NewMySQL(t))
			l.run(t)
			heart := &gaps{last: time.Now()}
			l.sink.mu.Lock()
			l.sink.before = heart.call
			l.sink.mu.Unlock()
			c.away(t, l)
			l.seen.awaitAny(t, "it is there", func() bool {
				return l.seen.count(c.want) > 1 || l.seen.count(c.want) > 0 && c.want == invalidation.Gated
			})
			assert.Less(t, heart.max(), heartPatience)
		})
	}
}

func TestSinkThatMustResumeEndsTheWaitForMySQL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		away func(*testing.T, *servers.MySQLServer)
	}{
		{"killed", func(t *testing.T, s *servers.MySQLServer) { t.Helper(); s.Kill(t) }},
		{"frozen before it greets", func(t *testing.T, s *servers.MySQLServer) { t.Helper(); s.Pause(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newMySQLLog(t, servers.NewMySQL(t))
			c.away(t, l.server)
			calls := 0
			l.sink.before = func(invalidation.Batch) error {
				if calls++; calls > 1 {
					return invalidation.ErrResume
				}
				return nil
			}
			started := time.Now()
			require.ErrorIs(t, runToItsEnd(t, l.source(t)), invalidation.ErrResume)
			assert.Less(t, time.Since(started), 5*time.Second)
		})
	}
}
