package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

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
	c.begun()
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
