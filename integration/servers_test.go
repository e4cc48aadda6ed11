package integration

import (
	"context"
	"database/sql"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

func TestSharedMySQLWritesTheBinlogWeRead(t *testing.T) {
	t.Parallel()
	name, db := servers.MySQL(t).Database(t)

	for variable, want := range map[string]string{
		"binlog_format": "ROW", "binlog_row_metadata": "FULL", "gtid_mode": "ON", "sync_binlog": "1", "log_bin": "ON",
		"innodb_flush_log_at_trx_commit": "1",
	} {
		var got string
		require.NoError(t, db.QueryRowContext(t.Context(), "SHOW VARIABLES LIKE '"+variable+"'").Scan(new(string), &got))
		assert.Equal(t, want, got, variable)
	}
	var current string
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&current))
	assert.Equal(t, name, current)
}

func TestSharedPostgresGivesEachTestADatabase(t *testing.T) {
	t.Parallel()
	server := servers.Postgres(t)
	name, dsn := server.Database(t)
	other, _ := server.Database(t)
	assert.NotEqual(t, name, other)

	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var current string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_database()").Scan(&current))
	assert.Equal(t, name, current)
}

func TestSharedRedisAnswers(t *testing.T) {
	t.Parallel()
	rdb, prefix := servers.Redis(t).Client(t), servers.Prefix(t)
	require.NoError(t, rdb.Set(t.Context(), prefix+"k", "v", time.Minute).Err())
	assert.Equal(t, "v", rdb.Get(t.Context(), prefix+"k").Val())
}

func TestKilledMySQLComesBackWithItsData(t *testing.T) {
	t.Parallel()
	server := servers.NewMySQL(t, "--max-connections=77")
	_, db := server.Database(t)
	_, err := db.ExecContext(t.Context(), "CREATE TABLE t (id INT PRIMARY KEY)")
	require.NoError(t, err)

	server.Kill(t)
	assert.False(t, listens(t, server.Addr()))
	server.Start(t)

	_, err = db.ExecContext(t.Context(), "INSERT INTO t VALUES (1)")
	require.NoError(t, err, "the same address and the same data")
	assert.Equal(t, "77", mysqlVariable(t, db, "max_connections"))
	assert.Contains(t, server.Exec(t, "mysqld", "--version"), "Ver ")
}

func TestStoppedPostgresComesBackWithItsData(t *testing.T) {
	t.Parallel()
	server := servers.NewPostgres(t, "-c", "wal_level=logical")
	name, _ := server.Database(t)

	server.Stop(t)
	assert.False(t, listens(t, server.Addr()))
	server.Start(t)

	var level string
	require.NoError(t, server.Conn(t, name).QueryRow(t.Context(), "SHOW wal_level").Scan(&level))
	assert.Equal(t, "logical", level)
}

func TestPausedRedisAnswersNothing(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, "--maxmemory", "64mb")
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	defer rdb.Close()

	server.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, rdb.Ping(ctx).Err(), context.DeadlineExceeded)
	server.Unpause(t)
	require.NoError(t, rdb.Ping(t.Context()).Err())

	server.Pause(t) // and is removed all the same
}

func mysqlVariable(t *testing.T, db *sql.DB, name string) string {
	t.Helper()
	var value string
	require.NoError(t, db.QueryRowContext(t.Context(), "SHOW VARIABLES LIKE '"+name+"'").Scan(new(string), &value))
	return value
}

func listens(t *testing.T, addr string) bool {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", addr)
	if err == nil {
		conn.Close()
	}
	return err == nil
}
