package integration

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/binlog"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// mysqlCache is a watched table, a cache, and a Source between them.
type mysqlCache struct {
	t      *testing.T
	server *servers.MySQLServer
	db     *sql.DB
	schema string
	prefix string
	redis  *servers.RedisServer
	rdb    *redis.Client
	seen   *events
	config binlog.Config
}

// newMySQLCache uses the given server, or the shared one.
func newMySQLCache(t *testing.T, server *servers.MySQLServer) *mysqlCache {
	t.Helper()
	if server == nil {
		server = servers.MySQL(t)
	}
	c := &mysqlCache{t: t, server: server, redis: servers.Redis(t), prefix: servers.Prefix(t), seen: newEvents()}
	c.rdb = c.redis.Client(t)
	c.schema, c.db = server.Database(t)
	c.exec("CREATE TABLE users (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(50), email VARCHAR(100))")
	rules, err := invalidation.NewRules([]invalidation.Rule{{Table: c.schema + ".users", Keys: []string{c.prefix + "{id}", c.prefix + "email:{email}"}}})
	require.NoError(t, err)
	c.config = binlog.Config{
		Name: "shop", Hosts: []string{server.Addr()}, User: server.User(), Password: server.Password(),
		Mapper: rules, Sink: newSink(t, c.redis.Addr(), c.prefix, c.seen), Observer: c.seen,
	}
	return c
}

func (c *mysqlCache) exec(query string) {
	c.t.Helper()
	_, err := c.db.ExecContext(c.t.Context(), query)
	require.NoError(c.t, err)
}

func (c *mysqlCache) key(name any) string { return fmt.Sprint(c.prefix, name) }

func (c *mysqlCache) cache(names ...any) {
	c.t.Helper()
	for _, name := range names {
		require.NoError(c.t, c.rdb.Set(c.t.Context(), c.key(name), "stale", 0).Err())
	}
}

func (c *mysqlCache) cached(name any) bool {
	c.t.Helper()
	n, err := c.rdb.Exists(c.t.Context(), c.key(name)).Result()
	require.NoError(c.t, err)
	return n == 1
}

// awaitGone waits until none of the names is cached.
func (c *mysqlCache) awaitGone(names ...any) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		return !slices.ContainsFunc(names, c.cached)
	}, 20*time.Second, 5*time.Millisecond, "still cached: %v", names)
}

// run runs a Source until stop is called; it is restarted as a supervisor does.
func (c *mysqlCache) run() (stop func()) {
	c.t.Helper()
	source, err := binlog.New(c.config)
	require.NoError(c.t, err)
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := source.Run(ctx); ctx.Err() == nil {
				c.t.Logf("source: %v", err)
			}
		}
	}()
	working := c.seen.count(invalidation.Working)
	c.seen.await(c.t, invalidation.Working, working)
	stop = func() { cancel(); <-done }
	c.t.Cleanup(stop)
	return stop
}

// Anomalies 17 and 18: the application committed and its delete never came.
func TestForgottenDeletesAreIssued(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	c.run()
	c.exec("INSERT INTO users VALUES (18446744073709551615, 'a', 'a@x'), (2, 'b', NULL)")
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
	stop()
	c.exec("INSERT INTO users VALUES (1, 'a', NULL)")
	c.cache(1)

	healthy := c.config
	crashed := make(chan struct{})
	c.config.Sink = crashingSink{Sink: healthy.Sink, crash: func() { close(crashed) }}
	source, err := binlog.New(c.config)
	require.NoError(t, err)
	require.ErrorIs(t, source.Run(t.Context()), context.Canceled)
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

// Anomaly 51: a purge notes a position whose commits are not visible yet; behind
// the scan a reader fills the old row, and nothing deletes it again.
func TestPurgeWaitsForTheNotedPosition(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, servers.NewMySQL(t))
	c.exec("INSERT INTO users VALUES (1, 'old', NULL)")
	stall(t, c.server, 3*time.Second)
	committed := make(chan struct{})
	go func() {
		defer close(committed)
		c.exec("UPDATE users SET name = 'new' WHERE id = 1")
	}()
	logged := func() string { // what is in the binlog, visible or not
		var file, position, doDB, ignoreDB, gtids string
		require.NoError(t, c.db.QueryRowContext(t.Context(), "SHOW BINARY LOG STATUS").Scan(&file, &position, &doDB, &ignoreDB, &gtids))
		return file + position
	}
	before := logged()
	require.Eventually(t, func() bool { return logged() != before }, 10*time.Second, time.Millisecond)

	var name string
	require.NoError(t, c.db.QueryRowContext(t.Context(), "SELECT name FROM users WHERE id = 1").Scan(&name))
	require.Equal(t, "old", name, "naive: a purge that noted the log's end now would leave this fill for ever")
	c.run() // a first start: purges
	require.NoError(t, c.rdb.Set(t.Context(), c.key(1), name, 0).Err(), "the fill behind the scan")
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

// Keys are built in UTF-8, whatever the column's character set; where that can
// not be done the pattern is purged.
func TestColumnsOfOtherCharacterSetsNameTheKeysThatApplicationsUse(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	c.exec("ALTER TABLE users MODIFY email VARCHAR(100) CHARACTER SET latin1")
	c.exec("INSERT INTO users VALUES (1, 'a', 'josé@x')")
	c.run()
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
	c.cache("email:你@x")
	incomplete := c.seen.count(invalidation.Incomplete)
	c.exec("UPDATE users SET name = 'd'")
	c.awaitGone("email:你@x")
	assert.Greater(t, c.seen.count(invalidation.Incomplete), incomplete)
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
	assert.False(t, c.cached(1))

	c.cache(2)
	c.config.Sink = healthy
	c.run()
	c.seen.await(t, invalidation.Advanced, c.seen.count(invalidation.Advanced)+2) // idle for longer than wait_timeout
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
	err = source.Run(t.Context())
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
	c.cache(1)
	c.exec("INSERT INTO users VALUES (1, 'a', NULL)")
	c.awaitGone(1)
	c.seen.await(t, invalidation.Advanced, c.seen.count(invalidation.Advanced)+1)
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

// Changes that leave no row events delete by pattern.
func TestStatementsWithoutRowEventsPurgeTheTable(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	c.exec("CREATE TABLE others (id INT PRIMARY KEY)")
	c.exec("INSERT INTO users VALUES (1, 'a', NULL)")
	c.run()
	for _, statement := range []string{
		"TRUNCATE TABLE users",
		"ALTER TABLE users ADD COLUMN extra INT FIRST",
		"RENAME TABLE users TO moved",
		"RENAME TABLE moved TO users",
		"DROP TABLE users",
	} {
		c.cache(77)
		c.exec(statement)
		c.awaitGone(77)
	}
	c.cache(77)
	c.exec("INSERT INTO others VALUES (1)")
	c.exec("TRUNCATE TABLE others")
	c.exec("CREATE TABLE users (extra INT, id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(50), email VARCHAR(100))")
	c.awaitGone(77) // a table of that name is new

	conn, err := c.db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	for _, statement := range []string{
		"SET SESSION binlog_format = STATEMENT", "INSERT INTO users VALUES (0, 5, 'a', 'five@x')", "UPDATE users SET name = 'b'",
	} {
		c.cache(77)
		_, err := conn.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	c.awaitGone(77)
	_, err = conn.ExecContext(t.Context(), "SET SESSION binlog_format = ROW")
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), "SET SESSION binlog_row_image = MINIMAL")
	require.NoError(t, err)
	c.cache("email:five@x")
	_, err = conn.ExecContext(t.Context(), "UPDATE users SET name = 'c' WHERE id = 5")
	require.NoError(t, err)
	c.awaitGone("email:five@x") // the image does not tell it
}

// Rows of an XA transaction are logged at PREPARE and visible at COMMIT.
func TestXARowsAreDeletedAtCommit(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, servers.NewMySQL(t))
	c.exec("INSERT INTO users VALUES (1, 'a', NULL), (2, 'a', NULL)")
	stop := c.run()
	xa := func(statements ...string) {
		t.Helper()
		conn, err := c.db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		for _, statement := range statements {
			_, err := conn.ExecContext(t.Context(), statement)
			require.NoError(t, err, statement)
		}
	}
	c.cache(1, 2)
	xa("XA START 'one'", "UPDATE users SET name = 'b' WHERE id = 1", "XA END 'one'", "XA PREPARE 'one'")
	c.exec("INSERT INTO users VALUES (9, 'sentinel', NULL)")
	c.cache(9)
	c.exec("DELETE FROM users WHERE id = 9")
	c.awaitGone(9)
	assert.True(t, c.cached(1), "not visible yet, so not deleted yet")
	xa("XA COMMIT 'one'")
	c.awaitGone(1)
	assert.True(t, c.cached(2))

	xa("XA START 'two'", "UPDATE users SET name = 'b' WHERE id = 2", "XA END 'two'", "XA PREPARE 'two'")
	require.Eventually(t, func() bool { return storedPosition(t, c.rdb, c.prefix) != "" }, 10*time.Second, 10*time.Millisecond)
	stop()
	c.run() // between prepare and commit
	c.cache(2)
	xa("XA COMMIT 'two'")
	c.awaitGone(2)
}

func TestServersThatCanNotBeReadAreRefusedInOneLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		args       []string
		password   string
	}{
		{"statement format", "binlog_format = STATEMENT", []string{"--binlog-format=STATEMENT"}, ""},
		{"no GTIDs", "gtid_mode = OFF", []string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}, ""},
		{"no metadata", "binlog_row_metadata = MINIMAL", []string{"--binlog-row-metadata=MINIMAL"}, ""},
		{"no binlog", "no binlog", []string{"--skip-log-bin"}, ""},
		{"wrong password", "check user and password", nil, "s3cr3t-wrong"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := servers.MySQL(t)
			if c.args != nil {
				server = servers.NewMySQL(t, c.args...)
			}
			rules, err := invalidation.NewRules([]invalidation.Rule{{Table: "shop.users", Keys: []string{"user:{id}"}}})
			require.NoError(t, err)
			config := binlog.Config{
				Name: "shop", Hosts: []string{server.Addr()}, User: server.User(), Password: server.Password(),
				Mapper: rules, Sink: newSink(t, servers.Redis(t).Addr(), servers.Prefix(t), nil),
			}
			if c.password != "" {
				config.Password = c.password
			}
			source, err := binlog.New(config)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err = source.Run(ctx)
			require.ErrorIs(t, err, invalidation.ErrFatal)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "s3cr3t-wrong")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestRuleWithAnUnknownColumnIsRefused(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	rules, err := invalidation.NewRules([]invalidation.Rule{{Table: c.schema + ".users", Keys: []string{"user:{nick}"}}})
	require.NoError(t, err)
	c.config.Mapper = rules
	source, err := binlog.New(c.config)
	require.NoError(t, err)
	err = source.Run(t.Context())
	require.ErrorIs(t, err, invalidation.ErrFatal)
	assert.ErrorContains(t, err, `rules[0].keys[0]: unknown column "nick" (`+c.schema+`.users has id, name, email)`)
}

// A transaction of many rows is deleted in pieces, and a position is never
// inside it; also where the server compresses it into one event.
func TestHugeTransactionIsDeletedInPieces(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, servers.NewMySQL(t))
	c.run()
	c.exec("INSERT INTO users WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT a.i * 1000 + b.i, 'a', NULL FROM n a, n b WHERE a.i <= 30")
	c.cache(1001, 15_500, 31_000)
	c.exec("UPDATE users SET name = 'b'")
	c.awaitGone(1001, 15_500, 31_000)

	c.exec("SET GLOBAL binlog_transaction_compression = ON")
	compressed := c.server.DB(t, c.schema) // sessions keep the setting that they began with
	c.cache(1001, 15_500, 31_000, "email:x@y")
	_, err := compressed.ExecContext(t.Context(), "UPDATE users SET email = 'x@y'")
	require.NoError(t, err)
	c.awaitGone(1001, 15_500, 31_000, "email:x@y")
	assert.Zero(t, c.seen.count(invalidation.Incomplete))
}
