package integration

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func TestAccountThatTheServerRefusesIsNamedWithTheStatementThatMendsIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change, fix string
		fatal       bool
	}{
		"locked":  {"ACCOUNT LOCK", " ACCOUNT UNLOCK", true},
		"expired": {"PASSWORD EXPIRE", " IDENTIFIED BY '...'", true},
		"limited": {"WITH MAX_USER_CONNECTIONS 1", " WITH MAX_USER_CONNECTIONS 0", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newMySQLLog(t, servers.MySQL(t))
			l.user(t, "REPLICATION SLAVE, REPLICATION CLIENT ON *.*", "SELECT ON "+l.schema+".users")
			l.exec(t, "ALTER USER "+l.config.User+" "+c.change)
			found := l.check(t)
			require.Len(t, found, 1)
			got := found.of(t, "connection")
			assert.Equal(t, invalidation.Fail, got.Level)
			assert.Contains(t, got.Fix, "ALTER USER '"+l.config.User+"'"+c.fix)
			if c.fatal {
				err := runToItsEnd(t, l.source(t))
				require.ErrorIs(t, err, invalidation.ErrFatal)
				require.ErrorContains(t, err, got.Fix)
			} else {
				stop := runSource(t, l.source(t))
				l.seen.await(t, invalidation.Waiting, 0)
				require.ErrorContains(t, l.seen.all(invalidation.Waiting)[0].Err, got.Fix)
				require.ErrorIs(t, stop(), context.Canceled)
			}
			fix, _, _ := strings.Cut(got.Fix, ", with")
			l.exec(t, strings.Replace(fix, "'...'", "'right'", 1))
			assert.Empty(t, l.check(t).bad(t), "the statement is what was missing")
		})
	}
}

func TestGrantsAreForTheAccountAsTheServerCallsIt(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.MySQL(t))
	l.user(t, "REPLICATION SLAVE, REPLICATION CLIENT ON *.*")
	account := "'" + l.config.User + "'@'1%'"
	l.exec(t, "RENAME USER "+l.config.User+" TO "+account)
	t.Cleanup(func() { _, _ = l.db.ExecContext(context.WithoutCancel(t.Context()), "DROP USER "+account) })
	got := l.check(t).of(t, "rules[0].table")
	require.Contains(t, got.Fix, "GRANT SELECT ON `"+l.schema+"`.`users` TO "+account)

	l.exec(t, "GRANT SELECT (id, name) ON "+l.schema+".users TO "+account)
	got = l.check(t).of(t, "rules[0].keys[1]")
	assert.Contains(t, got.Text, `unknown column "email"`)
	_, fix, ok := strings.Cut(got.Fix, "some columns only, ")
	require.True(t, ok, got.Fix)
	l.exec(t, fix)
	assert.Empty(t, l.check(t).bad(t), "the statement is what was missing")

	l.config.Mapper = mysqlRules(t, l.schema+"*.none_*", "n:{id}")
	_, fix, ok = strings.Cut(l.check(t).of(t, "rules[0].table").Fix, "create the table, or ")
	require.True(t, ok)
	l.exec(t, fix)
}

func TestWatchedDatabaseThatIsNotLoggedIsRefused(t *testing.T) {
	t.Parallel()
	server := servers.NewMySQL(t, "--binlog-do-db=other", "--binlog-do-db=other_2", "--binlog-row-image=NOBLOB")
	l := newMySQLLog(t, server)
	for table, level := range map[string]invalidation.Level{
		l.schema + ".users":  invalidation.Fail,
		l.schema + "*.users": invalidation.Fail,
		"*.users":            invalidation.Warn,
		"other.users":        invalidation.Warn,
	} {
		l.config.Mapper = mysqlRules(t, table, "user:{id}")
		assert.Equal(t, level, l.check(t).of(t, "binlog filters").Level, table)
	}
	l.config.Mapper = mysqlRules(t, l.schema+".users", "user:{id}")
	err := runToItsEnd(t, l.source(t))
	require.ErrorIs(t, err, invalidation.ErrFatal, "a start refuses the same")
	require.ErrorContains(t, err, "the server leaves database "+l.schema+" out of its log (binlog-do-db = other,other_2)")
	require.ErrorContains(t, err, "start the server with --binlog-do-db="+l.schema+" too")
	l.user(t, "REPLICATION SLAVE ON *.*")
	l.run(t)

	t.Run("texts that NOBLOB leaves out", func(t *testing.T) {
		l.config.User, l.config.Password = server.User(), server.Password()
		l.exec(t, "CREATE DATABASE other", "CREATE TABLE other.texts (id INT, name VARCHAR(9), t TEXT, p TINYTEXT, j JSON, s TEXT, PRIMARY KEY (id, p(9)))")
		l.config.Mapper = mysqlRules(t, "other.texts", "u:{id}:{name}", "u:{t}", "u:{p}")
		found := l.check(t)
		assert.Equal(t, invalidation.OK, found.of(t, "binlog_row_image").Level)
		got := found.of(t, "other.texts.t")
		assert.Equal(t, invalidation.Warn, got.Level)
		assert.Equal(t, "SET PERSIST binlog_row_image = FULL", got.Fix)
		for _, column := range []string{"id", "name", "p", "s"} {
			assert.NotContains(t, found.bad(t), "other.texts."+column+":")
		}
	})
}
