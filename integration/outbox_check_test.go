package integration

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/outbox"
)

func (d *outboxDB) exec(t *testing.T, queries ...string) {
	t.Helper()
	for _, query := range queries {
		_, err := d.conn.Exec(t.Context(), query)
		require.NoError(t, err, query)
	}
}

func checkOutbox(t *testing.T, cfg outbox.PostgresConfig, stored ...string) findings {
	t.Helper()
	source, err := outbox.NewPostgres(cfg)
	require.NoError(t, err)
	return source.Check(t.Context(), stored)
}

func TestCheckOfAGoodOutboxIsAllOK(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	now, err := db.source(t).Now(t.Context())
	require.NoError(t, err)
	db.enqueue(t, "k:1")
	found := checkOutbox(t, db.config(), now)
	assert.Empty(t, found.bad(t))
	for _, subject := range []string{"connection", "version", "primary", "pooler", "schema", "enqueue", "transactions", "SELECT ON cache_outbox.events", "retention", "purge"} {
		found.of(t, subject)
	}
	assert.Equal(t, "1 rows wait", found.of(t, "position").Text)
}

// relayGrants is what PostgresConfig.User documents, but for the USAGE ON SCHEMA that everybody has.
var relayGrants = []string{
	"SELECT ON cache_outbox.events", "DELETE ON cache_outbox.events", "SELECT ON cache_outbox.state", "UPDATE ON cache_outbox.state",
}

func TestRelayWithExactlyTheDocumentedGrants(t *testing.T) {
	t.Parallel()
	t.Run("reads, checks, purges, prunes", func(t *testing.T) {
		t.Parallel()
		db := newOutboxDB(t, servers.NewPostgres(t))
		cfg := db.config()
		cfg.User, cfg.Password, cfg.Retention = newRelayRole(t, db), "right", time.Millisecond
		for _, grant := range relayGrants {
			db.exec(t, "GRANT "+grant+" TO "+cfg.User)
		}
		assert.Empty(t, checkOutbox(t, cfg).bad(t))
		source, err := outbox.NewPostgres(cfg)
		require.NoError(t, err)
		runSource(t, source)
		db.sink.await(t, "it purges", func() bool { return len(db.sink.purged()) == 1 })
		db.enqueue(t, "k:1")
		db.sink.settle(t, db.conn)
		assert.True(t, db.sink.has("k:1"))
		db.events.await(t, invalidation.Pruned, 0)
		_, err = source.Now(t.Context())
		require.NoError(t, err)
		_, err = source.Lag(t.Context())
		require.NoError(t, err)
	})
	for _, missing := range relayGrants {
		t.Run("without "+missing, func(t *testing.T) {
			t.Parallel()
			db := newOutboxDB(t, servers.Postgres(t))
			cfg := db.config()
			cfg.User, cfg.Password = newRelayRole(t, db), "right"
			for _, grant := range relayGrants {
				if grant != missing {
					db.exec(t, "GRANT "+grant+" TO "+cfg.User)
				}
			}
			found := checkOutbox(t, cfg)
			got := found.of(t, missing)
			assert.Equal(t, invalidation.Fail, got.Level)
			require.Len(t, strings.Split(found.bad(t), "\n"), 1, "and nothing else is named")
			err := runOutboxToItsEnd(t, cfg)
			require.ErrorIs(t, err, invalidation.ErrFatal)
			_, table, _ := strings.Cut(missing, " ON ")
			require.ErrorContains(t, err, table)
			db.exec(t, got.Fix)
			assert.Empty(t, checkOutbox(t, cfg).bad(t))
		})
	}
}

func TestCheckNamesWhatIsWrongWithAnOutbox(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name    string
		change  []string
		subject string
		level   invalidation.Level
		fix     string
	}{
		{"no usage", []string{"REVOKE USAGE ON SCHEMA cache_outbox FROM PUBLIC"}, "USAGE ON SCHEMA cache_outbox", invalidation.Fail, "GRANT USAGE ON SCHEMA cache_outbox TO "},
		{"more columns", []string{
			"ALTER TABLE cache_outbox.events ADD COLUMN later text, ADD COLUMN \"a, b\" numeric(10, 2)", "ALTER TABLE cache_outbox.state ADD COLUMN later text",
		}, "schema", invalidation.Fail, "ALTER TABLE cache_outbox.events DROP COLUMN \"a, b\"; "},
		{"fewer columns", []string{"ALTER TABLE cache_outbox.events DROP COLUMN created_at"}, "schema", invalidation.Fail, "invalidator migrate down"},
		{"no index", []string{"ALTER TABLE cache_outbox.events DROP CONSTRAINT events_pkey"}, "schema", invalidation.Fail, "ALTER TABLE cache_outbox.events ADD PRIMARY KEY (txid, id)"},
		{"no function", []string{"DROP FUNCTION cache_outbox.enqueue(text[])"}, "enqueue", invalidation.Warn, "invalidator migrate down"},
		{"unlogged", []string{"ALTER TABLE cache_outbox.events SET UNLOGGED"}, "logged", invalidation.Fail, "ALTER TABLE"},
		{"row security", []string{"ALTER TABLE cache_outbox.events ENABLE ROW LEVEL SECURITY"}, "row security", invalidation.Fail, "ALTER TABLE"},
		{"no vacuum", []string{"ALTER TABLE cache_outbox.events SET (autovacuum_enabled = false)"}, "autovacuum of the outbox", invalidation.Warn, "ALTER TABLE"},
		{"old rows", []string{"SELECT cache_outbox.enqueue('k')", "UPDATE cache_outbox.events SET created_at = now() - interval '1 day'"}, "retention", invalidation.Warn, "start the daemon"},
		{"a trigger", []string{
			"CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
			"CREATE TRIGGER eats BEFORE INSERT ON cache_outbox.events FOR EACH ROW EXECUTE FUNCTION nothing()",
			`CREATE TRIGGER "Eats 2" BEFORE INSERT OR UPDATE ON cache_outbox.events FOR EACH ROW EXECUTE FUNCTION nothing()`,
		}, "triggers", invalidation.Fail, "DROP TRIGGER \"Eats 2\" ON cache_outbox.events; DROP TRIGGER eats ON cache_outbox.events"},
		{"a trigger that sees rows only", []string{
			"CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
			"CREATE TRIGGER sees AFTER INSERT ON cache_outbox.events FOR EACH ROW EXECUTE FUNCTION nothing()",
		}, "triggers", invalidation.Warn, "DROP TRIGGER sees ON cache_outbox.events"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := newOutboxDB(t, servers.Postgres(t))
			cfg := db.config()
			cfg.User, cfg.Password = newRelayRole(t, db), "right"
			for _, grant := range relayGrants {
				db.exec(t, "GRANT "+grant+" TO "+cfg.User)
			}
			db.exec(t, c.change...)
			found := checkOutbox(t, cfg)
			got := found.of(t, c.subject)
			assert.Equal(t, c.level, got.Level, found.bad(t))
			require.Contains(t, got.Fix, c.fix)
			if c.level == invalidation.Fail {
				err := runOutboxToItsEnd(t, cfg)
				require.ErrorIs(t, err, invalidation.ErrFatal, "a start refuses the same")
				assert.Contains(t, strings.ReplaceAll(err.Error(), `"`+cfg.User+`"`, cfg.User), got.Fix)
				assert.NotContains(t, err.Error(), "\n")
			}
			statements, _, _ := strings.Cut(got.Fix, "; or, of a newer version")
			statements, _, _ = strings.Cut(statements, ", unless you know")
			for _, start := range []string{"GRANT", "ALTER", "DROP"} {
				if strings.HasPrefix(statements, start) {
					db.exec(t, strings.Split(statements, "; ")...)
					assert.Empty(t, checkOutbox(t, cfg).bad(t), "the statements are what was missing")
				}
			}
		})
	}
}

func TestCheckComparesTheGlobsWithTheNewestKeys(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	purge := func() invalidation.Finding { return checkOutbox(t, db.config()).of(t, "purge") }
	assert.Contains(t, purge().Text, "nothing was enqueued lately")
	db.enqueue(t, "k:1", "k:2")
	assert.Equal(t, invalidation.Passed("purge", "the globs (k:*) cover the last 2 keys"), purge())

	db.enqueue(t, "k:3", "cart:2", "cart:3")
	assert.Equal(t, invalidation.Warn, purge().Level)
	assert.Contains(t, purge().Text, "the globs (k:*) do not cover 2 of the last 5 keys")
	assert.Equal(t, `purge: ["k:*", "cart:*"], or narrower ones`, purge().Fix)

	cfg := db.config()
	cfg.OnLost, cfg.Purge = invalidation.FailOnLost, nil
	assert.False(t, slices.ContainsFunc(checkOutbox(t, cfg), func(f invalidation.Finding) bool { return f.Subject == "purge" }), "nothing is purged")
	db.exec(t, "SELECT cache_outbox.enqueue('k:' || i) FROM generate_series(1, 1000) i")
	assert.Equal(t, invalidation.OK, purge().Level, "only the newest rows are looked at")
}

func TestCheckOfAnOutboxThatCanNotBeReachedIsOneFinding(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	bare, _ := db.server.Database(t)
	for name, c := range map[string]struct {
		change func(*outbox.PostgresConfig)
		want   string
	}{
		"away":           {func(c *outbox.PostgresConfig) { c.Hosts = []string{"127.0.0.1:1"} }, "fail connection"},
		"wrong password": {func(c *outbox.PostgresConfig) { c.User, c.Password = "nobody_here", "s3cr3t-wrong" }, "refuses the login"},
		"no database":    {func(c *outbox.PostgresConfig) { c.Database = "nowhere" }, "check database"},
		"no outbox":      {func(c *outbox.PostgresConfig) { c.Database = bare }, "[invalidator migrate up]"},
		"no TLS":         {func(c *outbox.PostgresConfig) { c.TLS = &tls.Config{MinVersion: tls.VersionTLS12} }, "[remove tls from the configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := db.config()
			c.change(&cfg)
			bad := checkOutbox(t, cfg).bad(t)
			assert.Contains(t, bad, c.want)
			assert.Len(t, strings.Split(bad, "\n"), 1)
		})
	}
}

func TestCheckNamesTheLimitThatLetsNobodyIn(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	cfg := db.config()
	cfg.User, cfg.Password = newRelayRole(t, db), "right"
	for _, grant := range relayGrants {
		db.exec(t, "GRANT "+grant+" TO "+cfg.User)
	}
	for _, object := range []string{"ROLE " + cfg.User, "DATABASE " + db.name} {
		db.exec(t, "ALTER "+object+" CONNECTION LIMIT 0")
		found := checkOutbox(t, cfg)
		require.Len(t, found, 1, "%s", object)
		waiting := db.events.count(invalidation.Waiting)
		stop := runOutbox(t, cfg)
		db.events.await(t, invalidation.Waiting, waiting)
		require.ErrorIs(t, stop(), context.Canceled)
		require.ErrorContains(t, db.events.last(invalidation.Waiting).Err, found[0].Fix)
		db.exec(t, found[0].Fix)
		assert.Empty(t, checkOutbox(t, cfg).bad(t), "the statement is what was missing")
	}
}

func TestCheckOfAStandby(t *testing.T) {
	t.Parallel()
	server := servers.NewPostgres(t, "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "autovacuum=off")
	db := newOutboxDB(t, server)
	found := checkOutbox(t, db.config())
	for _, subject := range []string{"fsync", "full_page_writes", "autovacuum"} {
		assert.Equal(t, invalidation.Warn, found.of(t, subject).Level, subject)
	}
	db.conn.Close(t.Context())
	server.Exec(t, "sh", "-c", `touch "$PGDATA/standby.signal"`)
	server.Stop(t)
	server.Start(t)
	got := checkOutbox(t, db.config(), "anything").of(t, "primary")
	assert.Equal(t, invalidation.Fail, got.Level)
	assert.Equal(t, "name the primary in hosts", got.Fix)
}

func TestCheckOfWhatTheCacheRemembersOfAnOutbox(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	now, err := db.source(t).Now(t.Context())
	require.NoError(t, err)
	for _, stored := range [][]string{{""}, {now, ""}, {outboxWith(t, now, map[string]any{"system": "1"})}, {"nonsense"}} {
		got := checkOutbox(t, db.config(), stored...).of(t, "position")
		assert.Equal(t, invalidation.Warn, got.Level)
		cfg := db.config()
		cfg.OnLost, cfg.Purge = invalidation.FailOnLost, nil
		assert.Equal(t, invalidation.Fail, checkOutbox(t, cfg, stored...).of(t, "position").Level)
	}
}

func TestCheckNamesTheAgeOfTheOldestTransaction(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.NewPostgres(t))
	open, err := db.server.Conn(t, db.name).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer open.Rollback(context.WithoutCancel(t.Context()))
	_, err = open.Exec(t.Context(), "SELECT 1 FROM cache_outbox.state")
	require.NoError(t, err)
	_, err = db.conn.Exec(t.Context(), "SELECT pg_sleep(1.1)")
	require.NoError(t, err)
	assert.Regexp(t, `has run for [1-9]\d*s$`, checkOutbox(t, db.config()).of(t, "transactions").Text)
	cfg := db.config()
	cfg.User, cfg.Password = newRelayRole(t, db), "right"
	assert.Contains(t, checkOutbox(t, cfg).of(t, "transactions").Text, "GRANT pg_read_all_stats TO "+cfg.User)
}
