package integration

import (
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/migrations"
	"github.com/seed-038af1a6/invalidator/pkg/outbox"
)

func TestOutboxEnqueueKeepsEveryByte(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	keys := []string{"NULL", "null", `"`, `\`, `\\"`, "{", "}", "{}", ",", " ", " a ", "a,b", "user:{1}", "ключ", "🔑", "\n\t\r", "'; --", `\x00`}
	for c := rune(1); c < 256; c++ {
		keys = append(keys, string(c))
	}
	db.enqueue(t, keys...)
	plain := outboxSQL(t, db.dsn)
	tx, err := plain.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, outbox.EnqueueSQL(t.Context(), tx, keys...))
	require.NoError(t, outbox.EnqueueSQL(t.Context(), tx))
	require.NoError(t, tx.Commit())

	rows, err := db.conn.Query(t.Context(), "SELECT keys FROM cache_outbox.events ORDER BY id")
	require.NoError(t, err)
	stored, err := pgx.CollectRows(rows, pgx.RowTo[[]string])
	require.NoError(t, err)
	assert.Equal(t, [][]string{keys, keys}, stored)
}

func TestOutboxEnqueueIsForEveryRole(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	role := "app_" + db.name[len(db.name)-8:]
	_, err := db.conn.Exec(t.Context(), "CREATE ROLE "+role+"; SET ROLE "+role)
	require.NoError(t, err)
	_, err = db.conn.Exec(t.Context(), "SELECT cache_outbox.enqueue('k:1', 'k:2')")
	require.NoError(t, err)
	_, err = db.conn.Exec(t.Context(), "SELECT cache_outbox.enqueue(VARIADIC '{}'), cache_outbox.enqueue(VARIADIC NULL)")
	require.NoError(t, err)
	for statement, want := range map[string]string{
		"SELECT cache_outbox.enqueue('k', NULL)":                       "NULL or empty",
		"SELECT cache_outbox.enqueue('k', '')":                         "NULL or empty",
		"SELECT cache_outbox.enqueue(VARIADIC '{{a,b},{c,d}}')":        "more than one dimension",
		"INSERT INTO cache_outbox.events (keys) VALUES ('{k}')":        "permission denied",
		"SELECT keys FROM cache_outbox.events":                         "permission denied",
		"SELECT cache_outbox.enqueue(VARIADIC ARRAY['k', NULL, 'k2'])": "NULL or empty",
	} {
		_, err = db.conn.Exec(t.Context(), statement)
		require.ErrorContains(t, err, want, statement)
	}
	_, err = db.conn.Exec(t.Context(), "SELECT cache_outbox.enqueue(VARIADIC (SELECT array_agg('k:' || i) FROM generate_series(1, 2500) i))")
	require.NoError(t, err)
	_, err = db.conn.Exec(t.Context(), "RESET ROLE; DROP ROLE "+role)
	require.NoError(t, err)
	var sizes []int
	require.NoError(t, db.conn.QueryRow(t.Context(), "SELECT array_agg(cardinality(keys) ORDER BY id) FROM cache_outbox.events").Scan(&sizes))
	assert.Equal(t, []int{2, 1000, 1000, 500}, sizes, "a long list becomes several rows")
}

func TestOutboxEnqueueSaysHowToInstallTheSchema(t *testing.T) {
	t.Parallel()
	server := servers.Postgres(t)
	name, dsn := server.Database(t)
	tx, err := server.Conn(t, name).Begin(t.Context())
	require.NoError(t, err)
	err = outbox.Enqueue(t.Context(), tx, "k")
	require.Error(t, err)
	assert.True(t, strings.HasSuffix(err.Error(), `run "invalidator migrate up"`), err)
	plain, err := outboxSQL(t, dsn).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer plain.Rollback()
	err = outbox.EnqueueSQL(t.Context(), plain, "k")
	require.Error(t, err)
	assert.True(t, strings.HasSuffix(err.Error(), `run "invalidator migrate up"`), err)
}

func TestOutboxSchemaComesAndGoes(t *testing.T) {
	t.Parallel()
	server := servers.Postgres(t)
	name, dsn := server.Database(t)
	conn, db := server.Conn(t, name), outboxSQL(t, dsn)
	relations := func() (n int) {
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
			WHERE nspname NOT LIKE 'pg_%' AND nspname NOT IN ('information_schema', 'cache_outbox')`).Scan(&n))
		return n
	}
	states, err := migrations.Status(t.Context(), db)
	require.NoError(t, err)
	require.Len(t, states, 1)
	assert.False(t, states[0].Applied)

	var wg sync.WaitGroup
	for range 3 { // daemons that start at the same time
		wg.Go(func() {
			_, err := migrations.Up(t.Context(), db)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	states, err = migrations.Status(t.Context(), db)
	require.NoError(t, err)
	assert.True(t, states[0].Applied)
	assert.False(t, states[0].AppliedAt.IsZero())
	assert.Zero(t, relations(), "nothing lands outside of the schema")

	undone, err := migrations.Down(t.Context(), db)
	require.NoError(t, err)
	assert.Equal(t, "00001_outbox.sql", undone)
	undone, err = migrations.Down(t.Context(), db)
	require.NoError(t, err)
	assert.Empty(t, undone)
	var there bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'cache_outbox')").Scan(&there))
	assert.False(t, there)

	_, err = conn.Exec(t.Context(), migrations.Print())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "SELECT cache_outbox.enqueue('k')")
	require.NoError(t, err)
}
