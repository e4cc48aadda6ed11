package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/binlog"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// Anomaly 51: a purge notes a position whose commits are not visible yet; behind
// the scan a reader fills the old row, and nothing deletes it again.
func TestPurgeWaitsForTheNotedPosition(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, servers.NewMySQL(t))
	c.exec("INSERT INTO users VALUES (1, 'old', NULL)")
	stall(t, c.server, time.Minute)
	logged := func() string { // what is in the binlog, visible or not
		var file, position, doDB, ignoreDB, gtids string
		require.NoError(t, c.db.QueryRowContext(t.Context(), "SHOW BINARY LOG STATUS").Scan(&file, &position, &doDB, &ignoreDB, &gtids))
		return file + position
	}
	before := logged()
	committed := make(chan struct{})
	go func() {
		defer close(committed)
		c.exec("UPDATE users SET name = 'new' WHERE id = 1")
	}()
	require.Eventually(t, func() bool { return logged() != before }, 10*time.Second, time.Millisecond)

	var name string
	require.NoError(t, c.db.QueryRowContext(t.Context(), "SELECT name FROM users WHERE id = 1").Scan(&name))
	require.Equal(t, "old", name, "naive: a purge that noted the log's end now would leave this fill for ever")
	c.run() // a first start: purges
	require.NoError(t, c.rdb.Set(t.Context(), c.key(1), name, 0).Err(), "the fill behind the scan")
	c.exec("SET GLOBAL rpl_semi_sync_source_enabled = OFF") // nobody waits for a replica any more
	<-committed
	c.awaitGone(1)
}

// A purge waits for the servers that loaders read, too.
func TestPurgeAndDeletesWaitForTheServersOfReadsFrom(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, servers.NewMySQL(t))
	replica := servers.NewMySQL(t) // it has executed nothing of the source's
	c.config.ReadsFrom = []string{replica.Addr()}
	c.config.GateTimeout = 300 * time.Millisecond
	catchUp := func() {
		t.Helper()
		var executed string
		require.NoError(t, c.db.QueryRowContext(t.Context(), "SELECT @@global.gtid_executed").Scan(&executed))
		_, err := replica.DB(t, "").ExecContext(t.Context(), "SET GLOBAL gtid_purged = ?", "+"+executed)
		require.NoError(t, err)
	}
	c.cache(1)
	source, err := binlog.New(c.config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx) }()
	defer func() { cancel(); <-done }()
	c.seen.await(t, invalidation.Waiting, 1)
	assert.True(t, c.cached(1), "a loader of the replica would bring the old row back")
	catchUp()
	c.awaitGone(1)

	c.cache(2)
	waiting := c.seen.count(invalidation.Waiting)
	c.exec("INSERT INTO users VALUES (2, 'a', NULL)")
	c.seen.await(t, invalidation.Waiting, waiting)
	assert.True(t, c.cached(2))
	_, err = replica.DB(t, "").ExecContext(t.Context(), "RESET BINARY LOGS AND GTIDS") // gtid_purged only grows by what is new
	require.NoError(t, err)
	catchUp()
	c.awaitGone(2)
}

// A purge that is done is not repeated when the next thing fails.
func TestFinishedPurgeIsRemembered(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, servers.NewMySQL(t, "--wait-timeout=1"))
	c.cache(1)
	started, cancel := context.WithCancel(t.Context())
	healthy := c.config.Sink
	c.config.Sink = stopAfterPurge{Sink: healthy, stop: cancel}
	source, err := binlog.New(c.config)
	require.NoError(t, err)
	require.ErrorIs(t, source.Run(started), context.Canceled)
	require.Eventually(t, func() bool { return storedPosition(t, c.rdb, c.prefix) != "" }, 20*time.Second, 5*time.Millisecond,
		"stored when the purge is done, without another call")
	assert.False(t, c.cached(1))

	c.cache(2)
	c.config.Sink = healthy
	c.run()
	c.seen.await(t, invalidation.Advanced, c.seen.count(invalidation.Advanced)+5) // idle for longer than wait_timeout
	assert.True(t, c.cached(2), "no second purge")
	assert.Equal(t, 1, c.seen.count(invalidation.Lost))
	waiting := c.seen.count(invalidation.Waiting)
	c.exec("INSERT INTO users VALUES (2, 'a', NULL)")
	c.awaitGone(2)
	assert.Equal(t, waiting, c.seen.count(invalidation.Waiting), "the idle gate did not lose its connection")
}

// stopAfterPurge ends the source between its purge and what follows.
type stopAfterPurge struct {
	invalidation.Sink

	stop func()
}

func (s stopAfterPurge) Apply(ctx context.Context, b invalidation.Batch) error {
	err := s.Sink.Apply(ctx, b)
	if err == nil && len(b.Patterns) == 0 {
		s.stop() // the call behind the purge, the first that may fail
	}
	return err
}

func TestPositionOfAnotherKindOfSourcePurges(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	_, err := c.config.Sink.Positions(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.config.Sink.Apply(t.Context(), invalidation.Batch{Position: `{"system":"1","timeline":"00000001"}`}))
	require.NoError(t, c.config.Sink.Apply(t.Context(), invalidation.Batch{}))
	c.cache(1)
	c.run()
	c.awaitGone(1)
	assert.Equal(t, 1, c.seen.count(invalidation.Lost))
}

func TestLostPositionPurgesByPattern(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, servers.NewMySQL(t))
	stop := c.run()
	c.exec("INSERT INTO users VALUES (1, 'a', NULL)")
	c.awaitGone(1)
	stop()
	c.cache(7)
	c.exec("UPDATE users SET name = 'b'")
	c.exec("FLUSH BINARY LOGS")
	c.exec("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")
	require.NoError(t, c.rdb.Set(t.Context(), "unrelated"+c.prefix, "v", time.Minute).Err())

	failing := c.config
	failing.OnLost = invalidation.FailOnLost
	source, err := binlog.New(failing)
	require.NoError(t, err)
	err = runToItsEnd(t, source)
	require.ErrorIs(t, err, invalidation.ErrLost)
	require.ErrorIs(t, err, invalidation.ErrFatal)

	lost := c.seen.count(invalidation.Lost)
	c.run()
	c.awaitGone(7)
	assert.Equal(t, lost+1, c.seen.count(invalidation.Lost))
	assert.Equal(t, int64(1), c.rdb.Exists(t.Context(), "unrelated"+c.prefix).Val())
}

// Anomaly 54: nobody deleted for a rule before it was there.
func TestNewRulePurgesItsOwnPattern(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	stop := c.run()
	c.begun()
	c.cache(1)
	c.exec("INSERT INTO users VALUES (1, 'a', NULL)")
	c.awaitGone(1)
	c.seen.await(t, invalidation.Advanced, c.seen.count(invalidation.Advanced)+1) // the next heartbeats store it
	stop()
	rules, err := invalidation.NewRules([]invalidation.Rule{
		{Table: c.schema + ".users", Keys: []string{c.prefix + "{id}", c.prefix + "email:{email}"}},
		{Table: c.schema + ".users", Keys: []string{"new:" + c.prefix + "{name}"}},
	})
	require.NoError(t, err)
	c.config.Mapper = rules
	require.NoError(t, c.rdb.Set(t.Context(), "new:"+c.prefix+"a", "v", time.Minute).Err())
	c.cache(1)
	c.run()
	require.Eventually(t, func() bool { return c.rdb.Exists(t.Context(), "new:"+c.prefix+"a").Val() == 0 }, 10*time.Second, 5*time.Millisecond)
	assert.True(t, c.cached(1), "the rules that were there before keep their entries")
}
