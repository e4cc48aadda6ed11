package integration

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// checked is what Check found, by subject.
func checked(t *testing.T, options *redis.UniversalOptions, patterns ...string) map[string]invalidation.Finding {
	t.Helper()
	found := map[string]invalidation.Finding{}
	for _, f := range redissink.Check(t.Context(), wanted(options, patterns...)) {
		if f.Level != invalidation.OK {
			t.Log(f.Level, f.Subject, f.Text, "→", f.Fix)
		}
		if before, twice := found[f.Subject]; !twice || before.Level == invalidation.OK {
			found[f.Subject] = f
		}
	}
	return found
}

// wanted is a source with rules of these patterns.
func wanted(options *redis.UniversalOptions, patterns ...string) redissink.Wanted {
	return redissink.Wanted{Config: redissink.Config{Redis: options, Namespace: "inv", Source: "shop"}, Patterns: patterns, IsTemplates: true}
}

// levels counts the findings of a level.
func levels(found map[string]invalidation.Finding, level invalidation.Level) (subjects []string) {
	for subject, f := range found {
		if f.Level == level {
			subjects = append(subjects, subject)
		}
	}
	return subjects
}

func TestACheckOfAServerInOrderFindsNothing(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]func(testing.TB, ...string) *servers.RedisServer{"redis": servers.NewRedis, "redis 7": servers.NewRedis7, "valkey": servers.NewValkey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := server(t)
			client := s.Client(t)
			before := client.DBSize(t.Context()).Val()
			found := checked(t, s.Options(), "user:*", "order:*")
			assert.Empty(t, levels(found, invalidation.Fail))
			assert.Empty(t, levels(found, invalidation.Warn))
			assert.Contains(t, found["keys"].Text, "nothing could be sampled")
			assert.Equal(t, before, client.DBSize(t.Context()).Val(), "nothing is left behind")
		})
	}
}

func TestACheckComparesPatternsWithKeys(t *testing.T) {
	t.Parallel()
	s := servers.NewRedis(t)
	client := s.Client(t)
	pipe := client.Pipeline()
	for i := range 3000 {
		pipe.Set(t.Context(), fmt.Sprintf("user:%d", i), "x", 0)
		pipe.Set(t.Context(), fmt.Sprintf("Order-{%d}", i), "x", 0)
		pipe.Set(t.Context(), fmt.Sprintf("shop:cart:%d", i), "x", 0)
	}
	pipe.Set(t.Context(), "rare:1", "x", 0)
	pipe.Set(t.Context(), "inv:position:x", "x", 0)
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	found := checked(t, s.Options(), "user:*", "order:*", "cart:*", "rare:*", "nowhere:*", "inv:position:*")
	assert.Equal(t, invalidation.OK, found["keys user:*"].Level)
	assert.Equal(t, invalidation.OK, found["keys rare:*"].Level)
	assert.Equal(t, invalidation.Warn, found["keys order:*"].Level)
	assert.Contains(t, found["keys order:*"].Text, `some begin with "Order-"`)
	assert.Contains(t, found["keys cart:*"].Text, `some begin with "shop:cart:"`)
	assert.Equal(t, invalidation.Warn, found["keys nowhere:*"].Level)
	assert.Contains(t, found["keys nowhere:*"].Text, "no key like it among")
	assert.Equal(t, invalidation.Warn, found["keys inv:position:*"].Level, "the daemon's own keys are none of the application's")
}

func TestACheckCountsAKeyForOneRuleOnly(t *testing.T) {
	t.Parallel()
	s := servers.NewRedis(t)
	pipe := s.Client(t).Pipeline()
	for i := range 400 {
		pipe.Set(t.Context(), fmt.Sprintf("users:%d", i), "x", 0)
		pipe.Set(t.Context(), fmt.Sprintf("user:email:%d@x", i), "x", 0)
		pipe.Set(t.Context(), fmt.Sprintf("cart:%d:items", i), "x", 0)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	found := checked(t, s.Options(), "user:*", "user:email:*", "cart:*")
	assert.Equal(t, invalidation.Passed("keys user:email:*", "400 among 1200 sampled"), found["keys user:email:*"])
	assert.Equal(t, invalidation.Warn, found["keys user:*"].Level)
	assert.Contains(t, found["keys user:*"].Text, `no key like it among 1200 sampled, but some begin with "users:"`)
	assert.Equal(t, invalidation.Warn, found["keys cart:*"].Level)
	assert.Contains(t, found["keys cart:*"].Text, `400 among 1200 sampled match only if a value contains ":"`)
}

func TestACheckNamesEachRightThatIsMissing(t *testing.T) {
	t.Parallel()
	s := servers.NewRedis(t)
	client := s.Client(t)
	require.NoError(t, client.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">app-pa55", "~inv:*", "~user:*", "%R~cart:*", "+@all", "-dbsize").Err())
	options := *s.Options()
	options.Username, options.Password = "app", "app-pa55"
	var missing []string
	for _, f := range redissink.Check(t.Context(), wanted(&options, "user:*", "order:*", "cart:*")) {
		assert.NotContains(t, f.Text+f.Fix, "app-pa55")
		if f.Level == invalidation.Fail {
			missing = append(missing, f.Subject+" "+f.Fix)
		}
	}
	assert.ElementsMatch(t, []string{
		"rights ACL SETUSER app +dbsize", "rights ACL SETUSER app +unlink ~order:*", "rights ACL SETUSER app +unlink ~cart:*",
	}, missing)
	assert.Empty(t, client.Do(t.Context(), "ACL", "LOG").Val(), "nothing was tried")
}

func TestACheckSaysWhatIsWrongWithTheServer(t *testing.T) {
	t.Parallel()
	t.Run("wrong password", func(t *testing.T) {
		t.Parallel()
		s := servers.NewRedis(t)
		require.NoError(t, s.Client(t).ConfigSet(t.Context(), "requirepass", "redis-pa55").Err())
		options := *s.Options()
		options.Password = "wr0ng-pa55"
		found := checked(t, &options)
		assert.Equal(t, "correct redis.username and redis.password", found["connection"].Fix)
		assert.NotContains(t, found["connection"].Text, "wr0ng-pa55")
		options.Password = ""
		assert.Contains(t, checked(t, &options)["connection"].Fix, "set redis.password")
	})
	t.Run("no such database", func(t *testing.T) {
		t.Parallel()
		options := *servers.NewRedis(t).Options()
		options.DB = 99
		found := checked(t, &options)
		assert.Len(t, found, 1)
		assert.Contains(t, found["connection"].Text, "has no database 99")
		assert.Contains(t, found["connection"].Fix, "raise the server's databases")
	})
	t.Run("settings", func(t *testing.T) {
		t.Parallel()
		s := servers.NewRedis(t, "--maxmemory", "100mb", "--maxmemory-policy", "noeviction")
		assert.Equal(t, invalidation.Warn, checked(t, s.Options(), "user:*")["maxmemory-policy"].Level)
	})
	t.Run("replicas that are missing", func(t *testing.T) {
		t.Parallel()
		s := servers.NewRedis(t, "--min-replicas-to-write", "1")
		setUser(t, s.Client(t), slices.Concat(grantedKeys, grantedCommands))
		found := checked(t, as(s.Options()), "user:*")
		assert.Equal(t, []string{"writes"}, levels(found, invalidation.Fail))
		assert.Contains(t, found["writes"].Fix, "CONFIG SET min-replicas-to-write 0")
	})
	t.Run("a disk that takes no snapshot", func(t *testing.T) {
		t.Parallel()
		s := servers.NewRedis(t, "--save", "3600 1", "--dir", "/proc")
		setUser(t, s.Client(t), slices.Concat(grantedKeys, grantedCommands))
		require.NoError(t, s.Client(t).BgSave(t.Context()).Err())
		require.Eventually(t, func() bool {
			return strings.Contains(s.Client(t).Info(t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err")
		}, 10*time.Second, 20*time.Millisecond)
		found := checked(t, as(s.Options()), "user:*")
		assert.Equal(t, []string{"writes"}, levels(found, invalidation.Fail))
		assert.Contains(t, found["writes"].Fix, "CONFIG SET stop-writes-on-bgsave-error no")
		require.NoError(t, s.Client(t).ConfigSet(t.Context(), "stop-writes-on-bgsave-error", "no").Err())
		assert.Empty(t, levels(checked(t, as(s.Options()), "user:*"), invalidation.Fail))
	})
	t.Run("a database that the user may not choose", func(t *testing.T) {
		t.Parallel()
		s := servers.NewRedis(t)
		setUser(t, s.Client(t), slices.Concat(grantedKeys, grantedCommands))
		options := as(s.Options())
		options.DB = 3
		found := checked(t, options, "user:*")
		assert.Len(t, found, 1)
		assert.Equal(t, "ACL SETUSER invalidator +select", found["connection"].Fix)
		setUser(t, s.Client(t), slices.Concat(grantedKeys, grantedCommands, []string{"+select"}))
		assert.Empty(t, levels(checked(t, options, "user:*"), invalidation.Fail))
	})
	t.Run("no TLS", func(t *testing.T) {
		t.Parallel()
		options := *servers.NewRedis(t).Options()
		options.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		for name, options := range map[string]redis.UniversalOptions{"connection": options, "cluster": inCluster(options)} {
			found := checked(t, &options)
			assert.Len(t, found, 1)
			assert.Equal(t, "remove redis.tls, or name the port that speaks TLS", found[name].Fix)
		}
	})
	t.Run("TLS where none is wanted", func(t *testing.T) {
		t.Parallel()
		found := checked(t, &redis.UniversalOptions{Addrs: []string{servers.NewRedisTLS(t).Addr()}})
		assert.Len(t, found, 1)
		assert.Equal(t, "if the server speaks TLS, set redis.tls: {}", found["connection"].Fix)
	})
	t.Run("no Redis", func(t *testing.T) {
		t.Parallel()
		found := checked(t, &redis.UniversalOptions{Addrs: []string{servers.MySQL(t).Addr()}})
		assert.Len(t, found, 1)
		assert.Equal(t, "correct redis.addrs", found["connection"].Fix)
		assert.Contains(t, found["connection"].Text, "is no Redis")
	})
	t.Run("nobody answers", func(t *testing.T) {
		t.Parallel()
		found := checked(t, &redis.UniversalOptions{Addrs: []string{"127.0.0.1:1"}})
		assert.Equal(t, invalidation.Fail, found["connection"].Level)
		assert.Len(t, found, 1)
	})
}

func TestACheckLooksAtSentinelsAndTheirMaster(t *testing.T) {
	t.Parallel()
	s := servers.NewSentinel(t, servers.WithPassword("redis-pa55"), servers.WithSentinelPassword("sentinel-pa55"))
	awaitQuorum(t, s)
	found := checked(t, s.Options(), "user:*")
	assert.Empty(t, levels(found, invalidation.Fail))
	assert.Empty(t, levels(found, invalidation.Warn))

	wrong := *s.Options()
	wrong.MasterName = "nobody"
	assert.Equal(t, invalidation.Fail, checked(t, &wrong)["sentinels"].Level)
	wrong = *s.Options()
	wrong.SentinelPassword = "wr0ng-pa55"
	assert.Equal(t, invalidation.Fail, checked(t, &wrong)["sentinels"].Level)

	standalone := &redis.UniversalOptions{Addrs: []string{s.Replicas(t)[0].Addr()}, Password: "redis-pa55"}
	assert.Contains(t, checked(t, standalone)["role"].Text, "is a replica of")
	servers := *s.Options()
	servers.Addrs = []string{s.Master(t).Addr()}
	assert.Equal(t, invalidation.Fail, checked(t, &servers)["sentinels"].Level)
	s.Sentinels()[0].Kill(t)
	s.Sentinels()[1].Kill(t)
	require.Eventually(t, func() bool {
		return len(levels(checked(t, s.Options(), "user:*"), invalidation.Warn)) == 3
	}, 10*time.Second, 100*time.Millisecond, "two do not answer, and the third one finds no quorum")
}

func TestACheckLooksAtEachMasterOfACluster(t *testing.T) {
	t.Parallel()
	c := servers.NewCluster(t)
	found := checked(t, c.Options(), "user:*")
	assert.Empty(t, levels(found, invalidation.Fail))
	assert.Empty(t, levels(found, invalidation.Warn))
	assert.Contains(t, found["cluster"].Text, "3 masters have all 16384 slots")
	standalone := &redis.UniversalOptions{Addrs: c.Addrs()[:1]}
	assert.Equal(t, "set redis.mode: cluster", checked(t, standalone)["role"].Fix)
	broken := c.Masters(t)[1]
	require.NoError(t, broken.Client(t).Do(t.Context(), "CLUSTER", "DELSLOTS", broken.Slots(t)[0].First).Err())
	require.Eventually(t, func() bool {
		return strings.Contains(broken.Client(t).ClusterInfo(t.Context()).Val(), "cluster_state:fail")
	}, 10*time.Second, 20*time.Millisecond)
	writes := checked(t, c.Options(), "user:*")[broken.Addr()+" writes"]
	assert.Equal(t, invalidation.Fail, writes.Level)
	assert.Contains(t, writes.Text, "CLUSTERDOWN")

	alone := servers.NewRedis(t)
	setUser(t, alone.Client(t), slices.Concat(grantedKeys, grantedCommands))
	for _, options := range []*redis.UniversalOptions{alone.Options(), as(alone.Options())} {
		cluster := inCluster(*options)
		assert.Equal(t, "set redis.mode: standalone, or sentinel", checked(t, &cluster)["cluster"].Fix)
	}
}

func inCluster(options redis.UniversalOptions) redis.UniversalOptions {
	options.IsClusterMode = true
	return options
}
