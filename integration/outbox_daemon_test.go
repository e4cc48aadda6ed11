package integration

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

// The daemon is killed, an entry that no glob covers becomes stale, and the position is lost.
func TestEntryThatNoGlobCoversIsDeletedThoughThePositionIsLost(t *testing.T) {
	t.Parallel()
	pg, redisServer, prefix := servers.Postgres(t), servers.Redis(t), servers.Prefix(t)
	db, rdb := newOutboxDB(t, pg), redisServer.Client(t)
	config := fmt.Sprintf(`
namespace: %q
redis: { addrs: [%q] }
sources:
  - name: orders
    postgres: { hosts: [%q], user: %q, password: %q, database: %q }
    purge: [%q]
http: { listen: "127.0.0.1:0" }
`, prefix+"inv", redisServer.Addr(), pg.Addr(), pg.User(), pg.Password(), db.name, prefix+"order:*")
	first := start(t, config, "run")
	first.ready(t)
	first.kill()

	cart, order, other := prefix+"cart:2", prefix+"order:1", prefix+"other"
	for _, key := range []string{cart, order, other} {
		require.NoError(t, rdb.Set(t.Context(), key, "v", 0).Err())
	}
	db.enqueue(t, cart)
	own, err := rdb.Keys(t.Context(), prefix+"inv*").Result()
	require.NoError(t, err)
	require.NotEmpty(t, own)
	require.NoError(t, rdb.Del(t.Context(), own...).Err())

	second := start(t, config, "run")
	require.Eventually(t, func() bool {
		left, err := rdb.Exists(t.Context(), cart, order).Result()
		return err == nil && left == 0
	}, 30*time.Second, 10*time.Millisecond, "stale: %s", second)
	second.ready(t)
	assert.Contains(t, second.output(), "every row that is still in the outbox is read again")
	assert.Equal(t, int64(1), rdb.Exists(t.Context(), other).Val())

	found, err := exec.CommandContext(t.Context(), theBinary(t), "check", "--config", writeConfig(t, config)).CombinedOutput()
	require.NoError(t, err, "%s", found)
	assert.Contains(t, string(found), "do not cover 1 of the last 1 keys")
	_, status := second.get(t, "/metrics")
	assert.Contains(t, status, `invalidator_deleted_keys_total{group="other",result="found",source="orders"} 1`)
}
