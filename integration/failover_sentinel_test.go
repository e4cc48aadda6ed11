package integration

import (
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

// soon checks how long after a promotion it was noticed that the cache went back in time.
func soon(t *testing.T, after time.Duration) {
	t.Helper()
	t.Logf("noticed %s after the promotion", after)
	assert.LessOrEqual(t, after, 2*time.Second, "noticed too late")
}

// Anomaly 35: a delete is answered by a master that dies, and the replica that takes its place never saw it.
func TestSentinelFailoverThatLosesADeleteIsReplayed(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*servers.Node, testing.TB){"killed": (*servers.Node).Kill, "frozen": (*servers.Node).Freeze} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for kind, options := range kinds() {
				t.Run(kind, func(t *testing.T) {
					t.Parallel()
					topology := servers.NewSentinel(t, options...)
					master, replicas := topology.Master(t), topology.Replicas(t)
					rdb := master.Client(t)
					log := newMemoryLog(t, topology.Options())
					fill(t, rdb, "k:1", "k:2", "k:3")
					log.write(t, "k:1")
					log.stored(t)
					master.LoseReplication(t)
					log.write(t, "k:2", "k:3")
					log.stored(t)
					require.Empty(t, present(t, rdb, "k:1", "k:2", "k:3"))
					for _, replica := range replicas {
						assert.Equal(t, []string{"k:2", "k:3"}, present(t, replica.Client(t), "k:1", "k:2", "k:3"), "the deletes will be lost")
					}

					fail(master, t)
					promoted, at := servers.Promoted(t, replicas...)
					when, positions := log.resumes(t)
					soon(t, when.Sub(at))
					assert.Equal(t, []string{"1"}, positions, "the position that was there before the deletes")
					gone(t, promoted.Client(t), "k:1", "k:2", "k:3")
					log.stored(t)
				})
			}
		})
	}
}

// Anomalies 36, 37 and 49, and the ways to keep a position that do not notice them.
func TestNaivePositionsDoNotNoticeASentinelFailover(t *testing.T) {
	t.Parallel()
	topology := servers.NewSentinel(t, servers.WithReplicas(1))
	master, replica := topology.Master(t), topology.Replicas(t)[0]
	before := master.Client(t)
	log := newMemoryLog(t, topology.Options())
	promoted := &naive{rdb: replica.Client(t), last: "p1"}
	require.NoError(t, before.MSet(t.Context(), "naive:cas", "p1", "naive:counter", 6, "naive:pos", "p1").Err())
	fill(t, before, "real:1", "real:2", "chunk:1", "chunk:2", "same pipeline", "elsewhere", "counted")
	log.write(t, "k:0")
	log.stored(t)
	master.LoseReplication(t)

	// All deletes are answered by the old master.
	require.NoError(t, before.Del(t.Context(), "chunk:1").Err(), "a chunk without a position")
	_, err := before.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
		pipe.Del(t.Context(), "same pipeline")
		pipe.Set(t.Context(), "naive:pos", "p2", 0)
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, before.Del(t.Context(), "elsewhere", "counted").Err())
	token := before.Incr(t.Context(), "naive:counter").Val()
	log.write(t, "real:1")
	master.Kill(t)
	_, at := servers.Promoted(t, replica)
	after := promoted.rdb

	t.Run("a position that is set in the pipeline of the deletes", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, after.Set(t.Context(), "naive:pos", "p3", 0).Err(), "nobody compares")
		assert.Equal(t, []string{"same pipeline"}, present(t, after, "same pipeline"), "stale for ever")
	})
	t.Run("a position that is compared, without a nonce", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, after.Del(t.Context(), "chunk:2").Err())
		assert.True(t, promoted.compareAndSet(t, "p2"), "p1 is what was written last: nothing seems wrong")
		assert.Equal(t, []string{"chunk:1"}, present(t, after, "chunk:1", "chunk:2"), "stale for ever")
	})
	t.Run("a position that is written on another connection than the deletes (36)", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, after.Set(t.Context(), "naive:elsewhere", "p2", 0).Err())
		assert.Equal(t, []string{"elsewhere"}, present(t, after, "elsewhere"), "the position survives, the delete does not")
	})
	t.Run("a counter as a token (37)", func(t *testing.T) {
		t.Parallel()
		again := after.Incr(t.Context(), "naive:counter").Val()
		assert.Equal(t, token, again, "another process is given the same token, and the first takes it for its own")
		assert.Equal(t, []string{"counted"}, present(t, after, "counted"), "stale for ever")
	})

	when, positions := log.resumes(t)
	soon(t, when.Sub(at))
	assert.Equal(t, []string{"1"}, positions)
	gone(t, after, "real:1")
}

// The old master answers until it is told, so an orderly failover may lose deletes as well. Either way nothing stale is left, and no
// position is lost.
func TestSentinelFailoverInOrderLeavesNothingStale(t *testing.T) {
	t.Parallel()
	topology := servers.NewSentinel(t)
	log := newMemoryLog(t, topology.Options())
	log.write(t, "k:0")
	log.stored(t)
	var keys []string
	for round := range 2 {
		rdb := topology.Client(t)
		for i := range 20 {
			keys = append(keys, "k:"+strconv.Itoa(round)+":"+strconv.Itoa(i))
		}
		fill(t, rdb, keys...)
		promoted, _ := topology.Failover(t)
		for _, key := range keys {
			log.add(key)
		}
		topology.AwaitMaster(t, promoted)
		log.stored(t)
		gone(t, promoted.Client(t), keys...)
	}
	log.neverLost(t)
}

// The Sentinels are asked for the master all the time; some of them may be away, and the ones that know it may be frozen.
func TestSentinelsMayDie(t *testing.T) {
	t.Parallel()
	topology := servers.NewSentinel(t)
	master, replicas := topology.Master(t), topology.Replicas(t)
	log := newMemoryLog(t, topology.Options())
	fill(t, master.Client(t), "k:1", "k:2")
	log.write(t, "k:1")
	log.stored(t)
	topology.Sentinels()[0].Freeze(t)
	master.LoseReplication(t)
	log.write(t, "k:2")
	master.Kill(t)
	promoted, at := servers.Promoted(t, replicas...)
	when, positions := log.resumes(t)
	soon(t, when.Sub(at))
	assert.Equal(t, []string{"1"}, positions)
	gone(t, promoted.Client(t), "k:1", "k:2")
}

// Anomaly 43: a dump is restored that has old values and the old position.
func TestRestoredDumpIsReplayed(t *testing.T) {
	t.Parallel()
	node := servers.NewSentinel(t, servers.WithReplicas(0)).Nodes()[0] // its Sentinels have nobody to promote
	rdb := node.Client(t)
	log := newMemoryLog(t, &redis.UniversalOptions{Addrs: []string{node.Addr()}})
	fill(t, rdb, "k:1", "k:2")
	log.write(t, "k:0")
	log.stored(t)
	require.NoError(t, rdb.Save(t.Context()).Err())
	node.Exec(t, "cp dump.rdb kept.rdb")
	log.write(t, "k:1", "k:2")
	log.stored(t)

	node.Kill(t)
	node.Exec(t, "mv kept.rdb dump.rdb")
	node.Start(t)
	_, positions := log.resumes(t)
	assert.Equal(t, []string{"1"}, positions, "the dump's")
	gone(t, rdb, "k:1", "k:2")
	log.stored(t)
}

// A power failure takes the last second of an append-only file.
func TestAppendOnlyFileThatLacksTheLastSecondIsReplayed(t *testing.T) {
	t.Parallel()
	// With everysec what was answered may not even be written yet while an earlier fsync takes its time.
	node := servers.NewSentinel(t, servers.WithReplicas(0), servers.WithArgs("--appendonly", "yes", "--appendfsync", "always")).Nodes()[0]
	rdb := node.Client(t)
	log := newMemoryLog(t, &redis.UniversalOptions{Addrs: []string{node.Addr()}})
	fill(t, rdb, "k:1", "k:2")
	log.write(t, "k:0")
	log.stored(t)
	node.Exec(t, "cp -r appendonlydir kept")
	log.write(t, "k:1", "k:2")
	log.stored(t)

	node.Kill(t)
	node.Exec(t, "rm -r appendonlydir && mv kept appendonlydir")
	node.Start(t)
	require.Equal(t, int64(1), node.Client(t).Exists(t.Context(), "inv:position:s").Val())
	_, positions := log.resumes(t)
	assert.Equal(t, []string{"1"}, positions)
	gone(t, rdb, "k:1", "k:2")
}

// Anomaly 55: Redis evicts the position to make room. That is no reason to purge.
func TestPositionThatIsEvictedIsWrittenAgain(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, "--maxmemory", "16mb", "--maxmemory-policy", "allkeys-lru", "--maxmemory-samples", "64")
	rdb := server.Client(t)
	log := newMemoryLog(t, &redis.UniversalOptions{Addrs: []string{server.Addr()}})
	log.write(t, "k:1")
	log.stored(t)
	evicted := 0
	value := make([]byte, 10_000)
	for deadline := time.Now().Add(10 * time.Second); evicted < 3 && time.Now().Before(deadline); {
		pipe := rdb.Pipeline()
		for range 500 {
			pipe.Set(t.Context(), "filler:"+strconv.FormatInt(time.Now().UnixNano(), 36), value, 0)
		}
		there := pipe.Exists(t.Context(), "inv:position:s")
		_, err := pipe.Exec(t.Context())
		require.NoError(t, err)
		if there.Val() == 0 {
			evicted++
			require.Eventually(t, func() bool { return rdb.Exists(t.Context(), "inv:position:s").Val() == 1 }, 10*time.Second, 10*time.Millisecond)
		}
	}
	require.Equal(t, 3, evicted, "the position is evicted")
	resumed, reasons := log.count()
	assert.Zero(t, resumed, reasons)
	log.write(t, "k:2")
	log.stored(t)
}
