package integration

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

// on returns the configuration of the cache's source with another section
// redis.
func (c *mysqlCache) on(redis string) string {
	return strings.Replace(withToken(c), fmt.Sprintf("redis: { addrs: [%q] }", c.redis.Addr()), "redis: "+redis, 1)
}

func quoted(addrs []string) string { return `["` + strings.Join(addrs, `", "`) + `"]` }

func TestTheDaemonRunsOnSentinelsAndClusters(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]func(t *testing.T) (config string, rdb redis.UniversalClient){
		"sentinel": func(t *testing.T) (string, redis.UniversalClient) {
			t.Helper()
			s := servers.NewSentinel(t, servers.WithPassword("redis-pa55"), servers.WithSentinelPassword("sentinel-pa55"))
			return fmt.Sprintf("{ mode: sentinel, addrs: %s, master_name: %s, password: redis-pa55, sentinel_password: sentinel-pa55 }", quoted(s.Addrs()), s.MasterName()), s.Client(t)
		},
		"cluster": func(t *testing.T) (string, redis.UniversalClient) {
			t.Helper()
			s := servers.NewCluster(t)
			return fmt.Sprintf("{ mode: cluster, addrs: %s }", quoted(s.Addrs()[:2])), s.Client(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			section, rdb := setup(t)
			c := newMySQLCache(t, nil)
			p := start(t, c.on(section), "run")
			o := &operated{mysqlCache: c, t: t, program: p, file: p.cmd.Args[len(p.cmd.Args)-1]}
			p.ready(t)
			for i := range 20 {
				require.NoError(t, rdb.Set(t.Context(), c.key(i), "stale", 0).Err())
				require.NoError(t, rdb.Set(t.Context(), c.key(fmt.Sprint("email:", i)), "stale", 0).Err())
				c.exec(fmt.Sprintf("INSERT INTO users VALUES (%d, 'a', NULL)", i))
			}
			require.Eventually(t, func() bool {
				left := 0
				for i := range 20 {
					left += int(rdb.Exists(t.Context(), c.key(i)).Val())
				}
				return left == 0
			}, 10*time.Second, 10*time.Millisecond, p)
			code, out, errs := o.ask("purge", c.prefix+"email:*")
			assert.Equal(t, 0, code, errs)
			assert.Contains(t, out, "done: 20 keys deleted")
			code, out, _ = o.command("position", "show")
			assert.Equal(t, 0, code)
			if name == "cluster" {
				assert.Equal(t, 3, strings.Count(out, `"gtids"`), out)
			}
			code, out, _ = o.command("check")
			assert.Equal(t, 0, code, out)
			assert.NotContains(t, out+p.output(), "-pa55")
			code, _, errs = o.ask("replay", "--since=1s")
			assert.Equal(t, 0, code, errs)
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
			assert.Equal(t, 0, p.end(t))
		})
	}
}

func TestAStopTakesLessThanFiveSecondsWhateverHangs(t *testing.T) {
	t.Parallel()
	for name, freeze := range map[string]func(*testing.T, *servers.MySQLServer, *servers.RedisServer){
		"the cache":    func(t *testing.T, _ *servers.MySQLServer, r *servers.RedisServer) { t.Helper(); r.Pause(t) },
		"the database": func(t *testing.T, m *servers.MySQLServer, _ *servers.RedisServer) { t.Helper(); m.Pause(t) },
		"both":         func(t *testing.T, m *servers.MySQLServer, r *servers.RedisServer) { t.Helper(); m.Pause(t); r.Pause(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, own := newMySQLCache(t, servers.NewMySQL(t)), servers.NewRedis(t)
			p := start(t, c.on(fmt.Sprintf("{ addrs: [%q] }", own.Addr())), "run")
			p.ready(t)
			freeze(t, c.server, own)

			require.Eventually(t, func() bool {
				status, _ := p.get(t, "/readyz")
				return status == http.StatusServiceUnavailable
			}, 30*time.Second, 50*time.Millisecond, p)
			stopped := time.Now()
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
			assert.Equal(t, 0, p.end(t))
			assert.Less(t, time.Since(stopped), 5*time.Second)
		})
	}
}
