package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/binlog"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// Anomalies 17 and 18: the application committed and its delete never came.
func TestForgottenDeletesAreIssued(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	c.run()
	c.begun()
	c.cache(2)
	c.exec("INSERT INTO users VALUES (18446744073709551615, 'a', 'a@x'), (2, 'b', NULL)")
	c.awaitGone(2)
	c.cache("18446744073709551615", "email:a@x", 2, 3)
	c.exec("UPDATE users SET name = 'c', email = 'new@x' WHERE id = 18446744073709551615")
	c.awaitGone("18446744073709551615", "email:a@x")
	assert.True(t, c.cached(2), "nobody touched it")

	c.cache("email:new@x")
	c.exec("DELETE FROM users WHERE id > 2")
	c.awaitGone("email:new@x")
	c.exec("INSERT INTO users VALUES (3, 'd', NULL)")
	c.awaitGone(3) // a cached absence
}

// Anomaly 22: what was committed while nothing ran is deleted at the next start.
func TestChangesWhileTheDaemonWasDownAreDeleted(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	stop := c.run()
	c.begun()
	c.cache(1)
	c.exec("INSERT INTO users VALUES (1, 'a', NULL), (2, 'a', NULL)")
	c.awaitGone(1)
	c.seen.await(t, invalidation.Advanced, c.seen.count(invalidation.Advanced)+1) // the next heartbeats store it
	stop()

	lost := c.seen.count(invalidation.Lost)
	c.cache(1, 2)
	c.exec("UPDATE users SET name = 'b' WHERE id = 1")
	c.run()
	c.awaitGone(1)
	assert.True(t, c.cached(2), "a replay, not a purge")
	assert.Equal(t, lost, c.seen.count(invalidation.Lost))
}

// crashingSink stops between the position's arrival and the delete.
type crashingSink struct {
	invalidation.Sink
	crash func()
}

func (s crashingSink) Apply(ctx context.Context, b invalidation.Batch) error {
	if len(b.Keys) == 0 {
		return s.Sink.Apply(ctx, b)
	}
	s.crash()
	return context.Canceled
}

// Anomaly 22 again: a crash between reading an event and deleting its key.
func TestCrashBeforeTheDeleteIsReplayed(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	stop := c.run()
	c.begun()
	stop()
	c.exec("INSERT INTO users VALUES (1, 'a', NULL)")
	c.cache(1)

	healthy := c.config
	crashed := make(chan struct{})
	c.config.Sink = crashingSink{Sink: healthy.Sink, crash: func() { close(crashed) }}
	source, err := binlog.New(c.config)
	require.NoError(t, err)
	require.ErrorIs(t, runToItsEnd(t, source), context.Canceled)
	<-crashed
	require.True(t, c.cached(1))

	c.config = healthy
	c.run()
	c.awaitGone(1)
}

// stall makes every commit of the server visible only after the given time, as
// semi-synchronous replication with a slow replica does: the event is in the
// binlog, and read, while other connections still see the row as it was.
func stall(t *testing.T, server *servers.MySQLServer, timeout time.Duration) {
	t.Helper()
	db := server.DB(t, "")
	for _, query := range []string{
		"INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
		"SET GLOBAL rpl_semi_sync_source_wait_point = AFTER_SYNC",
		fmt.Sprintf("SET GLOBAL rpl_semi_sync_source_timeout = %d", timeout.Milliseconds()),
		"SET GLOBAL rpl_semi_sync_source_enabled = ON",
	} {
		_, err := db.ExecContext(t.Context(), query)
		require.NoError(t, err, query)
	}
}

// Anomaly 20: the event is there, the key is deleted, a reader loads the row
// before it is visible and fills it legally.
func TestDeleteWaitsUntilTheCommitIsVisible(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		withoutGate bool
		wantStale   bool
	}{
		{"with the gate taken out the entry is stale", true, true},
		{"behind the gate it is not", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, c.wantStale, staleAfterAnEarlyEvent(t, c.withoutGate))
		})
	}
}

func staleAfterAnEarlyEvent(t *testing.T, withoutGate bool) bool {
	t.Helper()
	c := newMySQLCache(t, servers.NewMySQL(t))
	c.exec("INSERT INTO users VALUES (1, 'old', NULL)")
	c.config.WithoutGate = withoutGate
	c.run()
	fill := func() {
		var name string
		require.NoError(t, c.db.QueryRowContext(t.Context(), "SELECT name FROM users WHERE id = 1").Scan(&name))
		require.NoError(t, c.rdb.SetNX(t.Context(), c.key(1), name, 0).Err())
	}
	fill()
	stall(t, c.server, 3*time.Second)
	committed := make(chan struct{})
	go func() {
		defer close(committed)
		c.exec("UPDATE users SET name = 'new' WHERE id = 1")
	}()
	for visible := false; !visible; { // a reader that fills every miss
		fill()
		select {
		case <-committed:
			visible = true
		case <-time.After(5 * time.Millisecond):
		}
	}
	c.exec("INSERT INTO users VALUES (2, 'sentinel', NULL)")
	c.cache(3)
	c.exec("INSERT INTO users VALUES (3, 'sentinel', NULL)")
	c.awaitGone(3) // everything before is applied
	return c.rdb.Get(t.Context(), c.key(1)).Val() == "old"
}

// Keys are built in UTF-8, whatever the column's character set; where that can
// not be done the pattern is purged.
func TestColumnsOfOtherCharacterSetsNameTheKeysThatApplicationsUse(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	c.exec("ALTER TABLE users MODIFY email VARCHAR(100) CHARACTER SET latin1")
	c.exec("INSERT INTO users VALUES (1, 'a', 'josé@x')")
	c.run()
	c.begun()
	c.cache("email:josé@x", "email:other@x")
	c.exec("UPDATE users SET name = 'b'")
	c.awaitGone("email:josé@x")
	assert.True(t, c.cached("email:other@x"))
	c.exec("ALTER TABLE users MODIFY email VARCHAR(100) CHARACTER SET utf16")
	c.cache("email:josé@x")
	c.exec("UPDATE users SET name = 'c'")
	c.awaitGone("email:josé@x")
	c.exec("UPDATE users SET email = '你@x'")
	c.exec("ALTER TABLE users MODIFY email VARCHAR(100) CHARACTER SET gbk")
	c.cache(3)
	c.exec("INSERT INTO users VALUES (3, 'sentinel', NULL)")
	c.awaitGone(3) // everything before is mapped
	c.cache("email:你@x")
	incomplete := c.seen.count(invalidation.Incomplete)
	c.exec("UPDATE users SET name = 'd'")
	c.awaitGone("email:你@x")
	assert.Eventually(t, func() bool { return c.seen.count(invalidation.Incomplete) > incomplete }, 10*time.Second, 10*time.Millisecond)
}
