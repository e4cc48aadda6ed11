package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// findings makes what a check found easy to look up.
type findings []invalidation.Finding

func (f findings) of(t *testing.T, subject string) invalidation.Finding {
	t.Helper()
	for _, one := range f {
		if one.Subject == subject {
			return one
		}
	}
	t.Fatalf("nothing about %q in %+v", subject, f)
	return invalidation.Finding{}
}

// bad returns those that are not OK, each on a line, and makes sure that all have what a reader needs.
func (f findings) bad(t *testing.T) string {
	t.Helper()
	var lines []string
	for _, one := range f {
		assert.NotEmpty(t, one.Subject)
		assert.NotEmpty(t, one.Text)
		assert.NotContains(t, one.Text+one.Fix, "\n")
		assert.NotContains(t, one.Text+one.Fix, "s3cr3t")
		if one.Level != invalidation.OK {
			assert.NotEmpty(t, one.Fix, "%+v", one)
			lines = append(lines, fmt.Sprintf("%s %s: %s [%s]", one.Level, one.Subject, one.Text, one.Fix))
		}
	}
	return strings.Join(lines, "\n")
}

func (l *mysqlLog) check(t *testing.T, stored ...string) findings {
	t.Helper()
	return l.source(t).Check(t.Context(), stored)
}

func TestCheckOfAGoodServerIsAllOK(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.MySQL(t))
	now, err := l.source(t).Now(t.Context())
	require.NoError(t, err)
	found := l.check(t, now)
	assert.Empty(t, found.bad(t))
	for _, subject := range []string{"connection", "version", "log_bin", "gtid_mode", "binlog_format", "binlog_row_metadata", "sync_binlog", "REPLICATION SLAVE", "server id", "rules", "position"} {
		found.of(t, subject)
	}
	found.bad(t)
	require.NotEmpty(t, l.text(t, "SELECT 1"), "and the server was not touched")
}

func TestCheckNamesTheSettingsThatDoNotWork(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name    string
		args    []string
		subject string
		level   invalidation.Level
		fix     string
	}{
		{"statements", []string{"--binlog-format=STATEMENT"}, "binlog_format", invalidation.Fail, "SET PERSIST binlog_format = ROW"},
		{
			"no GTIDs",
			[]string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"},
			"gtid_mode", invalidation.Fail,
			"SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; SET PERSIST gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON",
		},
		{"no binlog", []string{"--skip-log-bin"}, "log_bin", invalidation.Fail, "--log-bin"},
		{"much at once", []string{
			"--binlog-row-metadata=MINIMAL", "--binlog-row-image=MINIMAL", "--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2", "--binlog-expire-logs-seconds=600",
			"--binlog-row-value-options=PARTIAL_JSON", "--log-replica-updates=OFF", "--binlog-ignore-db=shopx",
		}, "binlog_row_metadata", invalidation.Fail, "SET PERSIST binlog_row_metadata = FULL"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newMySQLLog(t, servers.NewMySQL(t, c.args...))
			found := l.check(t)
			got := found.of(t, c.subject)
			assert.Equal(t, c.level, got.Level)
			assert.Contains(t, got.Fix, c.fix)
			t.Log(found.bad(t))
			err := runToItsEnd(t, l.source(t))
			require.ErrorIs(t, err, invalidation.ErrFatal, "a start refuses the same")
			require.ErrorContains(t, err, got.Fix)
			if c.subject == "gtid_mode" {
				l.exec(t, strings.Split(got.Fix, "; ")...)
				assert.Empty(t, l.check(t).bad(t), "the statements are what was missing")
			}
			if len(c.args) > 2 {
				for _, subject := range []string{"binlog_row_image", "sync_binlog", "innodb_flush_log_at_trx_commit", "binlog_expire_logs_seconds", "binlog_row_value_options", "log_replica_updates", "binlog filters"} {
					assert.Equal(t, invalidation.Warn, found.of(t, subject).Level, subject)
				}
				l.config.Mapper = mysqlRules(t, "shopx.users", "u:{id}")
				assert.Equal(t, invalidation.Fail, findings(l.source(t).Check(t.Context(), nil)).of(t, "binlog filters").Level)
			}
		})
	}
}

func TestCheckWithoutAServerIsOneFinding(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.MySQL(t))
	l.config.Password = "s3cr3t-wrong"
	found := l.check(t)
	require.Len(t, found, 1)
	assert.Contains(t, found.bad(t), "fail connection")
	assert.Contains(t, found[0].Fix, "check user and password")
	l.config.Hosts = []string{"127.0.0.1:1", "127.0.0.1:2"}
	found = l.check(t)
	require.Len(t, found, 1)
	assert.Contains(t, found.bad(t), "127.0.0.1:2")

	l.config.Hosts, l.config.Password = []string{"127.0.0.1:1", l.server.Addr()}, l.server.Password()
	assert.Equal(t, invalidation.Warn, l.check(t).of(t, "hosts[0]").Level)
}

// user makes a user of exactly these grants.
func (l *mysqlLog) user(t *testing.T, grants ...string) {
	t.Helper()
	name := "u" + l.schema[len(l.schema)-8:]
	l.exec(t, "DROP USER IF EXISTS "+name, "CREATE USER "+name+" IDENTIFIED BY 'right'")
	t.Cleanup(func() { _, _ = l.db.ExecContext(context.WithoutCancel(t.Context()), "DROP USER IF EXISTS "+name) })
	for _, grant := range grants {
		l.exec(t, "GRANT "+grant+" TO "+name)
	}
	l.config.User, l.config.Password = name, "right"
}

func TestUserWithExactlyTheDocumentedGrants(t *testing.T) {
	t.Parallel()
	slave, client, sel := "REPLICATION SLAVE ON *.*", "REPLICATION CLIENT ON *.*", "SELECT ON %s.users"
	t.Run("reads, gates, checks, purges", func(t *testing.T) {
		t.Parallel()
		l := newMySQLLog(t, servers.NewMySQL(t))
		l.user(t, slave, client, fmt.Sprintf(sel, l.schema))
		l.exec(t, "FLUSH BINARY LOGS", "DO SLEEP(2.2)")
		source := l.run(t)
		l.sink.await(t, "it purges", func() bool { return len(l.sink.purged()) > 0 })
		l.exec(t, "INSERT INTO users VALUES (1, 'a', NULL)")
		l.sink.await(t, "it deletes", func() bool { return l.sink.has("user:1") })
		l.seen.await(t, invalidation.Gated, 0)
		stored := l.settle(t)
		assert.Empty(t, l.check(t, stored).bad(t))
		_, err := source.Rewind(t.Context(), time.Second, []string{stored})
		require.NoError(t, err)
		lag, err := source.Lag(t.Context())
		require.NoError(t, err)
		assert.GreaterOrEqual(t, lag.Bytes, int64(0))
		_, err = source.Now(t.Context())
		require.NoError(t, err)
	})
	t.Run("by a role", func(t *testing.T) {
		t.Parallel()
		l := newMySQLLog(t, servers.NewMySQL(t))
		l.exec(t, "CREATE ROLE reader", "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO reader", "GRANT SELECT ON "+l.schema+".* TO reader")
		l.user(t, "reader")
		got := l.check(t).of(t, "REPLICATION SLAVE")
		assert.Equal(t, invalidation.Fail, got.Level)
		_, fix, ok := strings.Cut(got.Fix, "has it: ")
		require.True(t, ok, got.Fix)
		l.exec(t, fix)
		assert.Empty(t, l.check(t).bad(t))
		l.run(t)
		l.exec(t, "INSERT INTO users VALUES (1, 'a', NULL)")
		l.sink.await(t, "it deletes", func() bool { return l.sink.has("user:1") })
	})
	for name, c := range map[string]struct {
		grants       []string
		subject, fix string
	}{
		"without REPLICATION SLAVE":  {[]string{client, sel}, "REPLICATION SLAVE", "GRANT REPLICATION SLAVE ON *.* TO 'u"},
		"without REPLICATION CLIENT": {[]string{slave, sel}, "REPLICATION CLIENT", "GRANT REPLICATION CLIENT ON *.* TO 'u"},
		"without SELECT":             {[]string{slave, client}, "rules[0].table", "GRANT SELECT ON `"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newMySQLLog(t, servers.MySQL(t))
			for i := range c.grants {
				c.grants[i] = strings.ReplaceAll(c.grants[i], "%s", l.schema)
			}
			l.user(t, c.grants...)
			got := l.check(t).of(t, c.subject)
			assert.Equal(t, invalidation.Fail, got.Level)
			require.Contains(t, got.Fix, c.fix)
			statement := got.Fix[strings.Index(got.Fix, "GRANT"):]
			l.exec(t, statement)
			assert.Empty(t, l.check(t).bad(t), "the statement is what was missing")
		})
	}
}

func TestStartWithoutTheRightToReadNamesTheGrant(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.MySQL(t))
	l.user(t, "REPLICATION CLIENT ON *.*")
	err := runToItsEnd(t, l.source(t))
	require.ErrorIs(t, err, invalidation.ErrFatal)
	require.ErrorContains(t, err, "GRANT REPLICATION SLAVE")
	l.user(t, "REPLICATION SLAVE ON *.*")
	_, err = l.source(t).Rewind(t.Context(), time.Second, nil)
	require.ErrorContains(t, err, "REPLICATION CLIENT")
}

func TestCheckComparesTheRulesWithTheTables(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.MySQL(t))
	l.exec(t, "CREATE TABLE odd (id INT PRIMARY KEY, f FLOAT, b VARBINARY(16), j JSON, g VARCHAR(20) CHARACTER SET gbk, s DOUBLE, w VARCHAR(9) CHARACTER SET latin1, ts TIMESTAMP)",
		"CREATE VIEW seen AS SELECT * FROM users")
	rules, err := invalidation.NewRules([]invalidation.Rule{
		{Table: l.schema + ".users", Keys: []string{"user:{id}", "user:nick:{nick}"}, Columns: []string{"mail"}},
		{Table: l.schema + ".usrs", Keys: []string{"user:{id}"}},
		{Table: l.schema + ".odd", Keys: []string{"odd:{f}:{b}", "odd:{j}", "odd:{g}", "odd:{w}:{ts}"}, Columns: []string{"s"}},
		{Table: l.schema + ".none_*", Keys: []string{"n:{id}"}},
		{Table: l.schema + ".seen", Keys: []string{"v:{id}"}},
		{Table: l.schema + ".Users", Keys: []string{"v:{id}"}},
	})
	require.NoError(t, err)
	l.config.Mapper = rules
	found := l.check(t)
	t.Log(found.bad(t))
	assert.Contains(t, found.of(t, "rules[0].keys[1]").Text, `unknown column "nick"`)
	assert.Contains(t, found.of(t, "rules[0].columns[0]").Text, `unknown column "mail"`)
	assert.Equal(t, invalidation.Fail, found.of(t, "rules[1].table").Level)
	assert.Equal(t, invalidation.Warn, found.of(t, "rules[3].table").Level)
	assert.Contains(t, found.of(t, "rules[4].table").Text, "is a view")
	assert.Equal(t, invalidation.Fail, found.of(t, "rules[5].table").Level)
	assert.Contains(t, found.of(t, "rules[5].table").Text, "there is "+l.schema+".users: names are compared with their case")
	for _, column := range []string{"f", "b", "j", "g", "ts"} {
		assert.Equal(t, invalidation.Warn, found.of(t, l.schema+".odd."+column).Level, column)
	}
	for _, column := range []string{"id", "s", "w"} {
		assert.NotContains(t, found.bad(t), l.schema+".odd."+column+":", column)
	}
}

func TestCheckListsCascadesThatAreNotLogged(t *testing.T) {
	t.Parallel()
	for _, native := range []string{"ON", "OFF"} {
		t.Run(native, func(t *testing.T) {
			t.Parallel()
			l := newMySQLLog(t, servers.NewMySQL(t, "--innodb-native-foreign-keys="+native))
			l.exec(t, "CREATE TABLE orders (id INT PRIMARY KEY, user BIGINT UNSIGNED, CONSTRAINT of_user FOREIGN KEY (user) REFERENCES users (id) ON DELETE CASCADE)",
				"INSERT INTO users VALUES (1, 'a', NULL)", "INSERT INTO orders VALUES (7, 1)")
			rules, err := invalidation.NewRules([]invalidation.Rule{
				{Table: l.schema + ".orders", Keys: []string{"order:{id}"}}, {Table: l.schema + ".users", Keys: []string{"user:{id}"}},
			})
			require.NoError(t, err)
			l.config.Mapper = rules
			l.user(t, "REPLICATION SLAVE, REPLICATION CLIENT ON *.*", "SELECT ON "+l.schema+".*")
			got := l.check(t).of(t, "cascades")
			l.run(t)
			l.exec(t, "DELETE FROM users")
			l.sink.await(t, "the parent's key", func() bool { return l.sink.has("user:1") })
			l.settle(t)
			if native == "OFF" {
				assert.Equal(t, invalidation.OK, got.Level)
				assert.True(t, l.sink.has("order:7"))
				return
			}
			assert.Equal(t, invalidation.Warn, got.Level)
			assert.Contains(t, got.Text, l.schema+".orders changes by the foreign key of_user when "+l.schema+".users does")
			assert.False(t, l.sink.has("order:7"), "which is why")
		})
	}
}

func TestCheckLooksAtTheServersThatLoadersRead(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	replica := servers.NewMySQL(t, "--server-id=2")
	l.config.ReadsFrom = []string{replica.Addr(), l.server.Addr(), "127.0.0.1:1"}
	found := l.check(t)
	assert.Contains(t, found.of(t, "reads_from[0]").Text, "is no replica and lacks")
	assert.Equal(t, invalidation.OK, found.of(t, "reads_from[1]").Level)
	assert.Equal(t, invalidation.Fail, found.of(t, "reads_from[2]").Level)

	db := replica.DB(t, "")
	for _, query := range []string{
		fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=1, SOURCE_USER='%s', SOURCE_PASSWORD='x', SOURCE_AUTO_POSITION=1", l.server.User()),
		"START REPLICA",
	} {
		_, err := db.ExecContext(t.Context(), query)
		require.NoError(t, err)
	}
	assert.Contains(t, l.check(t).of(t, "reads_from[0]").Text, "does not replicate")
}

func TestCheckOfAStoredPosition(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t, "--binlog-expire-logs-seconds=100000"))
	now, err := l.source(t).Now(t.Context())
	require.NoError(t, err)
	l.exec(t, "INSERT INTO users VALUES (1, 'a', NULL)", "UPDATE users SET name = 'b'")
	got := l.check(t, now).of(t, "position")
	assert.Equal(t, invalidation.OK, got.Level)
	assert.Regexp(t, `^2 transactions wait, the oldest was committed \d+s ago$`, got.Text)
	assert.Equal(t, invalidation.Warn, l.check(t, "").of(t, "position").Level)
	assert.Equal(t, invalidation.Warn, l.check(t, now, "nonsense").of(t, "position").Level)

	l.exec(t, "SET GLOBAL binlog_expire_logs_seconds = 2", "DO SLEEP(2)")
	found := l.check(t, now)
	assert.Contains(t, found.of(t, "position").Text, "behind that the position is lost")
	assert.Contains(t, found.of(t, "position").Fix, found.of(t, "binlog_expire_logs_seconds").Fix, "the two do not contradict each other")
	l.exec(t, "FLUSH BINARY LOGS", "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")
	got = l.check(t, now).of(t, "position")
	assert.Equal(t, invalidation.Warn, got.Level)
	assert.Contains(t, got.Text, "purged transactions")
	l.config.OnLost = invalidation.FailOnLost
	assert.Equal(t, invalidation.Fail, l.check(t, now).of(t, "position").Level)
}

func TestCheckTellsWhatSemiSyncCosts(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	stall(t, l.server, 20*time.Second)
	got := l.check(t).of(t, "semi-sync")
	assert.Equal(t, invalidation.Warn, got.Level)
	assert.Contains(t, got.Text, "at most 20s")
	l.exec(t, got.Fix)
	assert.Equal(t, invalidation.OK, l.check(t).of(t, "semi-sync").Level)
}

// A part of a document that is logged instead of the whole names no key, and hides none.
func TestPartialJSONDeletesTheKeysOfTheRow(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t, "--binlog-row-value-options=PARTIAL_JSON"))
	l.exec(t, "CREATE TABLE docs (id INT PRIMARY KEY, doc JSON, other INT, more JSON)", `INSERT INTO docs VALUES (1, '{"a": 1, "b": [1, 2, 3], "c": "text"}', 1, '{"x": 1}')`)
	rules, err := invalidation.NewRules([]invalidation.Rule{{Table: l.schema + ".docs", Keys: []string{"doc:{id}"}, Columns: []string{"doc"}}})
	require.NoError(t, err)
	l.config.Mapper = rules
	l.run(t)
	for i, change := range []string{
		"doc = JSON_SET(doc, '$.a', 2)",
		"doc = JSON_SET(doc, '$.a', 3, '$.c', 'other')",
		"doc = JSON_REMOVE(doc, '$.b[0]')",
		"doc = JSON_REPLACE(doc, '$.c', 'x'), more = JSON_SET(more, '$.x', 2), other = 2",
	} {
		l.sink.forget("doc:1")
		l.exec(t, "UPDATE docs SET "+change)
		l.sink.await(t, fmt.Sprintf("change %d is deleted", i), func() bool { return l.sink.has("doc:1") })
	}
	assert.Zero(t, l.seen.count(invalidation.Waiting))
	assert.Zero(t, l.seen.count(invalidation.Incomplete), "nothing is purged for it")
	l.exec(t, "UPDATE docs SET other = 9")
	l.settle(t)
}
