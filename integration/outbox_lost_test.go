package integration

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/migrations"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/outbox"
)

// runOutboxToItsEnd runs a source that is expected to fail.
func runOutboxToItsEnd(t *testing.T, cfg outbox.PostgresConfig) error {
	t.Helper()
	source, err := outbox.NewPostgres(cfg)
	require.NoError(t, err)
	return runToItsEnd(t, source)
}

func TestOutboxPurgesWhenThePositionIsUnusable(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, position string
		change         map[string]any // of a good position
	}{
		{name: "missing", position: ""},
		{name: "unreadable", position: "{"},
		{name: "another system", change: map[string]any{"system": "1"}},
		{name: "another database", change: map[string]any{"outbox": "1/16402"}},
		{name: "another history", change: map[string]any{"timeline": "00000099"}},
		{name: "in the future", change: map[string]any{"lsn": "FFFFFF/0"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := newOutboxDB(t, servers.Postgres(t))
			stop := db.ready(t)
			_ = stop()
			require.Equal(t, []string{"k:*"}, db.sink.purged())
			db.enqueue(t, "cart:2") // which no glob covers
			if c.change != nil {
				c.position = outboxWith(t, db.sink.position(), c.change)
			}

			db.sink.remember(c.position)
			cfg := db.config()
			cfg.OnLost, cfg.Purge = invalidation.FailOnLost, nil
			err := runOutboxToItsEnd(t, cfg)
			require.ErrorIs(t, err, invalidation.ErrLost)
			require.ErrorIs(t, err, invalidation.ErrFatal)
			assert.NotContains(t, err.Error(), "\n")

			runOutbox(t, db.config())
			db.events.await(t, invalidation.Lost, 1)
			db.sink.await(t, "it purges", func() bool { return len(db.sink.purged()) == 2 })
			db.enqueue(t, "k:new")
			db.sink.await(t, "and goes on", func() bool { return db.sink.has("k:new") })
			assert.True(t, db.sink.has("cart:2"), "the purge did not cover it")
			assert.Len(t, db.sink.purged(), 2, "once")
		})
	}
}

// Somebody prunes what a relay that lost its position has not read yet. That the purge covers, so it goes on.
func TestOutboxThatIsPrunedWhileALostPositionIsMadeUpForPurgesOnce(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.NewPostgres(t))
	const rows = 30_000
	_, err := db.conn.Exec(t.Context(), "DO $$ BEGIN FOR i IN 1.."+strconv.Itoa(rows)+" LOOP PERFORM cache_outbox.enqueue('cart:' || i); IF i % 1000 = 0 THEN COMMIT; END IF; END LOOP; END $$")
	require.NoError(t, err)
	held, release := make(chan struct{}), make(chan struct{})
	db.sink.before = func(b invalidation.Batch) error {
		if len(b.Keys) > 0 && held != nil {
			close(held)
			held = nil
			select {
			case <-release:
			case <-t.Context().Done():
			}
		}
		return nil
	}
	reads := held
	runOutbox(t, db.config())
	received(t, reads)

	other, cfg := newOutboxSink(), db.config()
	cfg.Sink, cfg.Observer, cfg.Retention = other, newEvents(), time.Millisecond
	runOutbox(t, cfg)
	other.settle(t, db.conn)
	other.await(t, "it is pruned", func() bool { return len(remaining(t, db.conn)) == 0 })
	close(release)
	db.sink.settle(t, db.conn)
	db.enqueue(t, "cart:new")
	db.sink.await(t, "it goes on", func() bool { return db.sink.has("cart:1", "cart:new") })
	assert.Equal(t, []string{"k:*"}, db.sink.purged())
	assert.False(t, db.sink.has("cart:"+strconv.Itoa(rows)), "it was gone before it could be read")
}

// The dump of a server brings the rows' transaction ids, and below which of them rows were pruned. To another server these
// mean nothing until it has given out as many.
func TestOutboxOfARestoredDumpPurgesOnce(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	db.exec(t, "UPDATE cache_outbox.state SET pruned_below = '100000000'")
	db.enqueue(t, "cart:1")
	for i := range 3 {
		stop := db.ready(t)
		db.enqueue(t, fmt.Sprint("cart:new:", i))
		db.sink.settle(t, db.conn)
		_ = stop()
	}
	assert.True(t, db.sink.has("cart:1", "cart:new:0", "cart:new:1", "cart:new:2"))
	assert.Equal(t, []string{"k:*"}, db.sink.purged())
}

// An outbox that is dropped and made again has lost rows that were not applied.
func TestOutboxThatWasMadeAgainPurges(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	stop := db.ready(t)
	db.sink.settle(t, db.conn)
	_ = stop()
	db.enqueue(t, "k:lost")
	sql := outboxSQL(t, db.dsn)
	_, err := migrations.Down(t.Context(), sql)
	require.NoError(t, err)
	_, err = migrations.Up(t.Context(), sql)
	require.NoError(t, err)
	purged := len(db.sink.purged())
	runOutbox(t, db.config())
	db.sink.await(t, "it purges", func() bool { return len(db.sink.purged()) > purged })
}

func TestOutboxPrunesOnlyWhatIsApplied(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.NewPostgres(t))
	cfg := db.config()
	cfg.Retention = time.Millisecond
	open, err := db.server.Conn(t, db.name).Begin(t.Context())
	require.NoError(t, err)

	stop := runOutbox(t, cfg)
	db.sink.await(t, "the first position is stored", func() bool { return db.sink.position() != "" })
	old := db.sink.position()
	db.enqueue(t, "k:1")
	db.enqueue(t, "k:2")
	require.NoError(t, outbox.Enqueue(t.Context(), open, "k:open"))
	db.enqueue(t, "k:3")
	db.sink.settle(t, db.conn)
	for pruned := 0; len(remaining(t, db.conn)) > 1; pruned++ { // one may go before the other
		db.events.await(t, invalidation.Pruned, pruned)
	}
	assert.Equal(t, []string{"k:3"}, remaining(t, db.conn), "rows behind an open transaction stay")

	pruned := db.events.count(invalidation.Pruned)
	require.NoError(t, open.Commit(t.Context()))
	db.sink.await(t, "the late one is delivered", func() bool { return db.sink.has("k:open") })
	db.events.await(t, invalidation.Pruned, pruned)
	_ = stop()
	assert.Empty(t, db.sink.missing([]string{"k:1", "k:2", "k:3", "k:open"}))

	// A cache that went back further than the retention finds out.
	require.Len(t, db.sink.purged(), 1)
	db.sink.remember(old)
	runOutbox(t, cfg)
	db.sink.await(t, "it purges", func() bool { return len(db.sink.purged()) == 2 })
}

func remaining(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT keys[1] FROM cache_outbox.events ORDER BY txid, id")
	require.NoError(t, err)
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return keys
}

// newRelayRole creates a role without privileges. Its password is "right".
func newRelayRole(t *testing.T, db *outboxDB) string {
	t.Helper()
	role := "relay_" + db.name[len(db.name)-8:]
	_, err := db.conn.Exec(t.Context(), "CREATE ROLE "+role+" LOGIN PASSWORD 'right'")
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, db.dsn)
		require.NoError(t, err)
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "DROP OWNED BY "+role+"; DROP ROLE "+role)
		assert.NoError(t, err)
	})
	return role
}

func TestOutboxEndsWithOneLineWhenOnlyAPersonCanHelp(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	bare, _ := db.server.Database(t)
	role := newRelayRole(t, db)
	cases := []struct {
		name                     string
		user, password, database string
		want                     string
	}{
		{"wrong password", role, "wr0ng-s3cret", db.name, "refuses the login"},
		{"unknown user", "nobody_here", "wr0ng-s3cret", db.name, "refuses the login"},
		{"unknown database", role, "right", "nowhere", "check database"},
		{"no schema", db.server.User(), db.server.Password(), bare, `run "invalidator migrate up"`},
		{"no privilege", role, "right", db.name, "GRANT SELECT, DELETE ON cache_outbox.events"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := db.config()
			cfg.User, cfg.Password, cfg.Database = c.user, c.password, c.database
			err := runOutboxToItsEnd(t, cfg)
			require.ErrorIs(t, err, invalidation.ErrFatal)
			assert.Contains(t, err.Error(), c.want)
			assert.Contains(t, err.Error(), db.server.Addr())
			assert.NotContains(t, err.Error(), "\n")
			assert.NotContains(t, err.Error(), "wr0ng-s3cret")
			t.Log(err)
		})
	}
}

func TestOutboxNamesTheGrantsThatItNeeds(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	cfg := db.config()
	cfg.User, cfg.Password = newRelayRole(t, db), "right"
	_, remedy, ok := strings.Cut(runOutboxToItsEnd(t, cfg).Error(), ": run GRANT")
	require.True(t, ok)
	_, err := db.conn.Exec(t.Context(), "GRANT"+remedy)
	require.NoError(t, err)
	runOutbox(t, cfg)
	db.enqueue(t, "k:1")
	db.sink.settle(t, db.conn)
}

func TestOutboxWaitsForAServerThatIsAway(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.NewPostgres(t))
	db.server.Kill(t)
	runOutbox(t, db.config())
	db.events.await(t, invalidation.Waiting, 2)
	calls := func() int {
		db.sink.mu.Lock()
		defer db.sink.mu.Unlock()
		return db.sink.calls
	}
	begun := calls()
	db.sink.await(t, "the sink's heart beats", func() bool { return calls() > begun+2 })
	db.server.Start(t)
	db.events.await(t, invalidation.Working, 0)
	conn := db.server.Conn(t, db.name)
	outboxEnqueue(t, conn, "k:1")
	db.sink.settle(t, conn)
	assert.Len(t, db.sink.purged(), 1)
}
