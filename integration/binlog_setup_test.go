package integration

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
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

// begun waits until the purge of the first start is done and remembered: what is
// cached from then on is deleted for a change only.
func (c *mysqlCache) begun() {
	c.t.Helper()
	require.Eventually(c.t, func() bool { return storedPosition(c.t, c.rdb, c.prefix) != "" }, 20*time.Second, 5*time.Millisecond, "no position is stored")
}

// runToItsEnd returns why a Source ends by itself.
func runToItsEnd(t *testing.T, source interface{ Run(context.Context) error }) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), outboxPatience)
	defer cancel()
	return source.Run(ctx)
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
