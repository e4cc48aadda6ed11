package integration

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

// kinds are the servers that every topology has to run on.
func kinds() map[string][]servers.Option {
	return map[string][]servers.Option{
		"Redis 8":  nil,
		"Redis 7":  {servers.OnRedis7()},
		"Valkey 9": {servers.OnValkey()},
	}
}

func TestSentinelsPromoteAReplicaThatLacksTheLastWrite(t *testing.T) {
	t.Parallel()
	for kind, options := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			topology := servers.NewSentinel(t, options...)
			t.Logf("up after %v", time.Since(began))
			master, replicas := topology.Master(t), topology.Replicas(t)
			require.Len(t, replicas, 2)
			rdb := master.Client(t)
			require.NoError(t, rdb.MSet(t.Context(), "before", "v", "after", "v").Err())

			master.LoseReplication(t)
			require.NoError(t, rdb.Del(t.Context(), "after").Err(), "the master answers")
			killed := time.Now()
			master.Kill(t)
			promoted, at := servers.Promoted(t, replicas...)
			t.Logf("promoted after %v", at.Sub(killed))

			assert.Equal(t, "v", promoted.Client(t).Get(t.Context(), "after").Val(), "and the delete is lost")
			topology.AwaitMaster(t, promoted)
			assert.Equal(t, "v", topology.Client(t).Get(t.Context(), "before").Val())
			master.Start(t)
			assert.Eventually(t, func() bool { return len(topology.Replicas(t)) == 2 && !master.IsMaster(t) }, 30*time.Second, 100*time.Millisecond,
				"the old master joins again")
		})
	}
}

func TestSentinelsFailOverInOrder(t *testing.T) {
	t.Parallel()
	topology := servers.NewSentinel(t, servers.WithReplicas(1), servers.WithPassword("data-pw"), servers.WithSentinelPassword("sentinel-pw"))
	old := topology.Master(t)
	require.NoError(t, topology.Client(t).Set(t.Context(), "k", "v", 0).Err())
	promoted, at := topology.Failover(t)
	assert.NotEqual(t, old, promoted)
	assert.WithinDuration(t, time.Now(), at, time.Minute)
	topology.AwaitMaster(t, promoted)
	assert.Equal(t, "v", topology.Client(t).Get(t.Context(), "k").Val())
}

func TestFrozenMasterComesBackAsAReplica(t *testing.T) {
	t.Parallel()
	topology := servers.NewSentinel(t, servers.WithReplicas(1))
	old := topology.Master(t)
	old.Freeze(t)
	promoted, _ := servers.Promoted(t, topology.Replicas(t)...)
	topology.AwaitMaster(t, promoted)
	old.Resume(t)
	assert.Eventually(t, func() bool { return !old.IsMaster(t) }, 30*time.Second, 100*time.Millisecond)
}

func TestClusterPromotesAReplicaThatLacksTheLastWrite(t *testing.T) {
	t.Parallel()
	for kind, options := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			cluster := servers.NewCluster(t, options...)
			t.Logf("up after %v", time.Since(began))
			rdb := cluster.Client(t)
			master := cluster.Masters(t)[1]
			replicas := cluster.Replicas(t, master)
			keys := cluster.KeysOn(t, master, "k:", 2)
			for _, key := range keys {
				require.NoError(t, rdb.Set(t.Context(), key, "v", 0).Err())
			}

			master.LoseReplication(t)
			require.Equal(t, int64(1), rdb.Del(t.Context(), keys[0]).Val(), "the master answers")
			killed := time.Now()
			master.Kill(t)
			promoted, at := servers.Promoted(t, replicas...)
			t.Logf("promoted after %v", at.Sub(killed))

			cluster.Settle(t)
			assert.Equal(t, promoted, cluster.Owner(t, cluster.Slot(t, keys[0])))
			assert.Equal(t, "v", promoted.Client(t).Get(t.Context(), keys[0]).Val(), "and the delete is lost")
			assert.Eventually(t, func() bool { return rdb.Get(t.Context(), keys[1]).Val() == "v" }, 30*time.Second, 50*time.Millisecond,
				"clients find the new master")
			master.Start(t)
			cluster.Settle(t)
			assert.False(t, master.IsMaster(t))
		})
	}
}

func TestReplicationGoesOnWhenItIsRestored(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t)
	master := cluster.Masters(t)[0]
	key := cluster.KeyOn(t, master, "k:")
	replica := cluster.Replicas(t, master)[0]
	master.LoseReplication(t)
	require.NoError(t, master.Client(t).Set(t.Context(), key, "v", 0).Err())
	master.RestoreReplication(t)
	assert.Equal(t, int64(1), replica.Client(t).DBSize(t.Context()).Val())

	promoted, _ := cluster.Failover(t, master)
	assert.Equal(t, replica, promoted)
	cluster.Settle(t)
	assert.Equal(t, "v", cluster.Client(t).Get(t.Context(), key).Val())
}

func TestSlotMovesWithItsKeysAndCanStopHalfWay(t *testing.T) {
	t.Parallel()
	for kind, options := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cluster := servers.NewCluster(t, append(options, servers.WithReplicas(0))...)
			masters := cluster.Masters(t)
			key := cluster.KeyOn(t, masters[0], "k:")
			slot, rdb := cluster.Slot(t, key), cluster.Client(t)
			tagged := []string{key, "{" + key + "}:2", "{" + key + "}:3"}
			for _, key := range tagged {
				require.NoError(t, rdb.Set(t.Context(), key, "v", 0).Err())
			}

			move := cluster.BeginMove(t, masters[0], masters[1], slot)
			assert.Equal(t, 2, move.Keys(t, 2))
			assert.Equal(t, int64(2), masters[1].Client(t).DBSize(t.Context()).Val(), "half way")
			assert.Equal(t, masters[0], cluster.Owner(t, slot))
			asked := 0
			for _, key := range tagged {
				if err := masters[0].Client(t).Get(t.Context(), key).Err(); err != nil {
					require.ErrorContains(t, err, "ASK")
					asked++
				}
			}
			assert.Equal(t, 2, asked)
			assert.Equal(t, 1, move.Keys(t, 2))
			move.Finish(t)
			assert.Equal(t, masters[1], cluster.Owner(t, slot))
			for _, key := range tagged {
				assert.Equal(t, "v", rdb.Get(t.Context(), key).Val())
			}
			require.ErrorContains(t, masters[0].Client(t).Get(t.Context(), key).Err(), "MOVED")
		})
	}
}

func TestAddedMasterTakesSlots(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0), servers.WithPassword("data-pw"))
	rdb, first := cluster.Client(t), cluster.Masters(t)[0]
	for _, key := range cluster.KeysOn(t, first, "k:", 500) {
		require.NoError(t, rdb.Set(t.Context(), key, "v", 0).Err())
	}
	added := cluster.AddMaster(t)
	assert.Empty(t, added.Slots(t))
	cluster.MoveSlots(t, 2000, first, added)
	assert.Equal(t, []servers.SlotRange{{First: 0, Last: 1999}}, added.Slots(t))
	moved, left := added.Client(t).DBSize(t.Context()).Val(), first.Client(t).DBSize(t.Context()).Val()
	assert.Positive(t, moved)
	assert.Equal(t, int64(500), moved+left)

	replica := cluster.AddReplica(t, added)
	assert.Equal(t, moved, replica.Client(t).DBSize(t.Context()).Val())
}

func TestDeadMasterWithoutReplicaLeavesTheOthersUp(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0), servers.WithPartialCoverage(), servers.WithArgs("--appendonly", "yes"))
	masters, rdb := cluster.Masters(t), cluster.Client(t)
	alive, dead := cluster.KeyOn(t, masters[0], "k:"), cluster.KeyOn(t, masters[2], "k:")
	require.NoError(t, rdb.Set(t.Context(), alive, "v", 0).Err())
	require.NoError(t, rdb.Set(t.Context(), dead, "v", 0).Err())
	masters[2].Stop(t)
	require.NoError(t, rdb.Set(t.Context(), alive, "v2", 0).Err())
	require.Error(t, masters[2].Client(t).Ping(t.Context()).Err())
	masters[2].Start(t)
	cluster.Settle(t)
	assert.Equal(t, "v", rdb.Get(t.Context(), dead).Val())
}

func TestTopologiesSpeakTLS(t *testing.T) {
	t.Parallel()
	t.Run("standalone", func(t *testing.T) {
		t.Parallel()
		server := servers.NewRedisTLS(t, servers.WithUser("app", "on >pw ~app:* +@all"))
		require.NoError(t, server.Client(t).Ping(t.Context()).Err())
		app := redis.NewClient(&redis.Options{
			Addr: server.Addr(), Username: "app", Password: "pw", TLSConfig: server.TLS.ConfigWithoutCertificate(),
		})
		defer app.Close()
		require.NoError(t, app.Set(t.Context(), "app:1", "v", 0).Err())
		require.ErrorContains(t, app.Set(t.Context(), "other", "v", 0).Err(), "NOPERM")
		plain := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
		defer plain.Close()
		require.Error(t, plain.Ping(t.Context()).Err())
	})
	t.Run("client certificates", func(t *testing.T) {
		t.Parallel()
		server := servers.NewRedisTLS(t, servers.WithClientCertificates(), servers.OnRedis7())
		require.NoError(t, server.Client(t).Ping(t.Context()).Err())
		stranger := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, TLSConfig: server.TLS.ConfigWithoutCertificate()})
		defer stranger.Close()
		require.Error(t, stranger.Ping(t.Context()).Err())
	})
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		topology := servers.NewSentinel(t, servers.WithTLS())
		require.NoError(t, topology.Client(t).Set(t.Context(), "k", "v", 0).Err())
		replicas := topology.Replicas(t)
		topology.Master(t).Kill(t)
		promoted, _ := servers.Promoted(t, replicas...)
		assert.Equal(t, "v", promoted.Client(t).Get(t.Context(), "k").Val())
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		cluster := servers.NewCluster(t, servers.WithTLS(), servers.OnValkey())
		masters := cluster.Masters(t)
		key := cluster.KeyOn(t, masters[0], "k:")
		require.NoError(t, cluster.Client(t).Set(t.Context(), key, "v", 0).Err())
		cluster.MoveSlot(t, cluster.Slot(t, key), masters[0], masters[1])
		assert.Equal(t, "v", cluster.Client(t).Get(t.Context(), key).Val())
	})
}
