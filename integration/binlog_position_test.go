package integration

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func (l *mysqlLog) text(t *testing.T, query string) string {
	t.Helper()
	var text string
	require.NoError(t, l.db.QueryRowContext(t.Context(), query).Scan(&text))
	return text
}

func (l *mysqlLog) covers(t *testing.T, position, gtids string) bool {
	t.Helper()
	var covered bool
	require.NoError(t, l.db.QueryRowContext(t.Context(), "SELECT GTID_SUBSET(?, ?)", gtids, outboxFields(t, position)["gtids"]).Scan(&covered))
	return covered
}

// wait lets more than two seconds pass: the server's clock counts in whole ones.
func (l *mysqlLog) wait(t *testing.T) { t.Helper(); l.exec(t, "DO SLEEP(2.2)") }

func TestBinlogKnowsItsServer(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.MySQL(t))
	id, err := l.source(t).Identity(t.Context())
	require.NoError(t, err)
	assert.Equal(t, l.text(t, "SELECT @@server_uuid"), id)

	l.config.Hosts = []string{"127.0.0.1:1", l.server.Addr()}
	again, err := l.source(t).Identity(t.Context())
	require.NoError(t, err)
	assert.Equal(t, id, again, "the host that is away is passed over")

	l.config.Password = "s3cr3t-wrong"
	_, err = l.source(t).Identity(t.Context())
	require.ErrorIs(t, err, invalidation.ErrFatal)
	assert.NotContains(t, err.Error(), "s3cr3t")
	assert.NotContains(t, err.Error(), "\n")
}

func TestIdentityOfAFrozenServerIsAnErrorWithinItsTime(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	l.server.Pause(t)
	started := time.Now()
	_, err := l.source(t).Identity(t.Context())
	require.Error(t, err)
	assert.Less(t, time.Since(started), 8*time.Second)
}

func TestBinlogBeginsWhereItIsToldNowIs(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	l.exec(t, "INSERT INTO users VALUES (1, 'a', NULL)")
	now, err := l.source(t).Now(t.Context())
	require.NoError(t, err)
	l.exec(t, "INSERT INTO users VALUES (2, 'a', NULL)")

	l.sink.remember(now)
	l.run(t)
	l.sink.await(t, "what came later is read", func() bool { return l.sink.has("user:2") })
	assert.False(t, l.sink.has("user:1"), "what was before is not")
	assert.Zero(t, l.seen.count(invalidation.Lost))
	assert.Empty(t, l.sink.purged(), "the rules are known: none has to be purged for")
	stored := l.settle(t)
	assert.Equal(t, outboxFields(t, stored)["rules"], outboxFields(t, now)["rules"])
	assert.Equal(t, outboxFields(t, stored)["server"], outboxFields(t, now)["server"])
}

// The position must not name a commit that a loader may not see yet.
func TestNowWaitsForTheServersThatLoadersRead(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	replica := servers.NewMySQL(t)
	l.config.ReadsFrom, l.config.GateTimeout = []string{replica.Addr()}, 300*time.Millisecond
	_, err := l.source(t).Now(t.Context())
	require.ErrorContains(t, err, "visible")
}

func TestRewindReadsEverythingOfThatTimeAgain(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	source := l.source(t)
	l.exec(t, "INSERT INTO users VALUES (1, 'old', NULL)", "FLUSH BINARY LOGS")
	old := l.text(t, "SELECT @@global.gtid_executed")
	l.wait(t)
	l.exec(t, "INSERT INTO users VALUES (2, 'a', NULL)", "FLUSH BINARY LOGS")
	since := time.Now()
	l.exec(t, "INSERT INTO users VALUES (3, 'a', NULL)")
	l.wait(t)
	l.exec(t, "FLUSH BINARY LOGS", "INSERT INTO users VALUES (4, 'a', NULL)")
	l.wait(t)
	newest, err := source.Now(t.Context())
	require.NoError(t, err)

	rewound, err := source.Rewind(t.Context(), time.Since(since), []string{newest})
	require.NoError(t, err)
	assert.True(t, l.covers(t, rewound, old), "it does not begin at the log's beginning")
	l.sink.remember(rewound)
	l.run(t)
	l.sink.await(t, "what was committed since is read again", func() bool { return l.sink.has("user:3", "user:4") })
	assert.False(t, l.sink.has("user:1"))
	assert.Empty(t, l.sink.purged())
	assert.Zero(t, l.seen.count(invalidation.Lost))
}

func TestRewindIsNeverNewerThanWhatIsStored(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	source := l.source(t)
	older, err := source.Now(t.Context())
	require.NoError(t, err)
	l.exec(t, "INSERT INTO users VALUES (1, 'a', NULL)", "FLUSH BINARY LOGS", "INSERT INTO users VALUES (2, 'a', NULL)")
	l.wait(t)
	newer, err := source.Now(t.Context())
	require.NoError(t, err)

	for _, stored := range [][]string{{older}, {newer, older}} {
		rewound, err := source.Rewind(t.Context(), time.Second, stored)
		require.NoError(t, err)
		assert.JSONEq(t, older, rewound)
	}
	unbound, err := source.Rewind(t.Context(), time.Second, nil)
	require.NoError(t, err)
	assert.False(t, l.covers(t, older, outboxFields(t, unbound)["gtids"].(string)), "the file that was begun by then begins later")
	assert.False(t, l.covers(t, unbound, outboxFields(t, newer)["gtids"].(string)))

	whole, err := source.Rewind(t.Context(), time.Hour*24*365, []string{newer})
	require.NoError(t, err)
	assert.Empty(t, outboxFields(t, whole)["gtids"], "the whole log of a server that is younger than that")
	_, err = source.Rewind(t.Context(), time.Second, []string{newer, ""})
	require.ErrorContains(t, err, "remembers no position")
	_, err = source.Rewind(t.Context(), -time.Second, nil)
	require.ErrorContains(t, err, "negative")
	l.exec(t, "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")
	_, err = source.Rewind(t.Context(), time.Second, []string{older})
	require.ErrorContains(t, err, "purged transactions")
	_, err = source.Rewind(t.Context(), time.Hour*24*365, []string{newer})
	require.ErrorContains(t, err, "the log does not reach back that far: it begins at ")
}

func TestOperatorMayGiveAGTIDSet(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	source := l.source(t)
	gtids := l.text(t, "SELECT @@global.gtid_executed")
	require.NoError(t, source.CheckPosition(gtids))
	complete, err := source.CompletePosition(t.Context(), gtids, nil)
	require.NoError(t, err)
	now, err := source.Now(t.Context())
	require.NoError(t, err)
	assert.JSONEq(t, now, complete)
	again, err := source.CompletePosition(t.Context(), complete, nil)
	require.NoError(t, err)
	assert.Equal(t, complete, again)

	_, err = source.CompletePosition(t.Context(), "aaaaaaaa-0000-0000-0000-000000000001:1-5", nil)
	require.ErrorContains(t, err, "never executed")
	_, err = source.CompletePosition(t.Context(), "yesterday", nil)
	require.ErrorContains(t, err, "neither a GTID set")

	l.exec(t, "INSERT INTO users VALUES (2, 'a', NULL)")
	newer, err := source.Now(t.Context())
	require.NoError(t, err)
	for _, text := range []string{gtids, now} {
		back, err := source.CompletePosition(t.Context(), text, []string{newer, now})
		require.NoError(t, err)
		assert.JSONEq(t, now, back)
	}
	for _, text := range []string{l.text(t, "SELECT @@global.gtid_executed"), newer} {
		_, err = source.CompletePosition(t.Context(), text, []string{newer, now})
		require.ErrorContains(t, err, "newer than what the cache remembers")
		assert.NotContains(t, err.Error(), "\n")
		_, err = source.CompletePosition(t.Context(), text, nil)
		require.NoError(t, err, "no cache was asked")
	}
	_, err = source.CompletePosition(t.Context(), gtids, []string{newer, ""})
	require.ErrorContains(t, err, "needs no replay")
	l.exec(t, "INSERT INTO users VALUES (1, 'a', NULL)", "FLUSH BINARY LOGS", "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")
	_, err = source.CompletePosition(t.Context(), gtids, nil)
	require.ErrorContains(t, err, "purged transactions")
}

// The questions do not end the stream of a Source that runs: two readers with one server id would.
func TestQuestionsDoNotDisturbASourceThatRuns(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	l.exec(t, "FLUSH BINARY LOGS", "DO SLEEP(2.2)")
	source := l.run(t)
	stored := l.settle(t)
	for range 3 {
		_, err := source.Rewind(t.Context(), time.Second, []string{stored})
		require.NoError(t, err)
		_, err = source.Now(t.Context())
		require.NoError(t, err)
		_, err = source.Identity(t.Context())
		require.NoError(t, err)
	}
	l.exec(t, "INSERT INTO users VALUES (1, 'a', NULL)")
	l.sink.await(t, "it reads on", func() bool { return l.sink.has("user:1") })
	assert.Zero(t, l.seen.count(invalidation.Waiting))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := source.Now(ctx)
	require.Error(t, err)
	assert.True(t, json.Valid([]byte(stored)))
}
