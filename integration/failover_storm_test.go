package integration

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

// writeOn fills keys, each once, and names each in an entry of the log after that, until the returned function is called. It returns all
// keys: whatever happens meanwhile, none of them may be left.
func writeOn(t *testing.T, rdb redis.Cmdable, log *memoryLog) (stop func() []string) {
	t.Helper()
	var keys []string
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		pause := time.NewTicker(2 * time.Millisecond)
		defer pause.Stop()
		for {
			select {
			case <-done:
				return
			case <-pause.C:
			}
			key := "storm:" + strconv.Itoa(len(keys))
			_ = rdb.Set(t.Context(), key, "stale", 0).Err() // it may have happened, whatever the error
			keys = append(keys, key)
			log.add(key)
		}
	})
	return sync.OnceValue(func() []string {
		close(done)
		writer.Wait()
		return keys
	})
}

// Masters die and freeze one after the other, with and without what they had answered, while keys are filled and deleted.
func TestNothingIsStaleAfterAStormOfSentinelFailovers(t *testing.T) {
	t.Parallel()
	topology := servers.NewSentinel(t)
	log := newMemoryLog(t, topology.Options())
	log.write(t, "k:0")
	log.stored(t)
	stop := writeOn(t, topology.Client(t), log)
	defer stop()
	var promoted *servers.Node
	for round := range 3 {
		master := topology.Master(t)
		replicas := topology.Replicas(t)
		if round != 1 {
			master.LoseReplication(t)
		}
		if round == 2 {
			master.Freeze(t)
		} else {
			master.Kill(t)
		}
		promoted, _ = servers.Promoted(t, replicas...)
		topology.AwaitMaster(t, promoted)
		if round == 2 {
			master.Resume(t)
		} else {
			master.Start(t)
		}
		topology.Settle(t)
	}
	keys := stop()
	log.stored(t)
	assert.Empty(t, present(t, promoted.Client(t), keys...), "of %d keys", len(keys))
	log.neverLost(t)
}

// The same with the masters of a cluster, and slots that move in between.
func TestNothingIsStaleAfterAStormOfClusterFailovers(t *testing.T) {
	t.Parallel()
	for kind, options := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cluster := servers.NewCluster(t, options...)
			rdb, log := cluster.Client(t), newMemoryLog(t, cluster.Options())
			log.write(t, "k:0")
			log.stored(t)
			stop := writeOn(t, rdb, log)
			defer stop()
			for round := range 3 {
				masters := cluster.Masters(t)
				master := masters[round%len(masters)]
				replicas := cluster.Replicas(t, master)
				if round != 1 {
					master.LoseReplication(t)
				}
				if round == 2 {
					master.Freeze(t)
				} else {
					master.Kill(t)
				}
				servers.Promoted(t, replicas...)
				cluster.Settle(t)
				if round == 2 {
					master.Resume(t)
				} else {
					master.Start(t)
				}
				cluster.Settle(t)
				masters = cluster.Masters(t)
				cluster.MoveSlots(t, 300, masters[round%3], masters[(round+1)%3])
			}
			keys := stop()
			log.stored(t)
			assert.Empty(t, present(t, rdb, keys...), "of %d keys", len(keys))
			log.neverLost(t)
		})
	}
}

// Anomaly 52: half of a scan is made on the old master, half on the new one; or a slot goes to where the scan has been already.
func TestPurgeFindsWhatMovesAroundIt(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(*testing.T, *servers.Cluster){
		"a master dies": func(t *testing.T, cluster *servers.Cluster) {
			t.Helper()
			master := cluster.Masters(t)[1]
			replicas := cluster.Replicas(t, master)
			master.Kill(t)
			servers.Promoted(t, replicas...)
		},
		"an orderly failover": func(t *testing.T, cluster *servers.Cluster) {
			t.Helper()
			cluster.Failover(t, cluster.Masters(t)[1])
		},
		"slots move to a master that was scanned before": func(t *testing.T, cluster *servers.Cluster) {
			t.Helper()
			masters := cluster.Masters(t)
			cluster.MoveSlots(t, 4000, masters[2], masters[0])
			cluster.MoveSlots(t, 4000, masters[1], masters[2])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := servers.NewCluster(t)
			rdb, log := cluster.Client(t), newMemoryLog(t, cluster.Options())
			keys := make([]string, 60_000)
			for i := range keys {
				keys[i] = "purged:" + strconv.Itoa(i)
			}
			setAll(t, rdb, keys)
			log.write(t, "k:0")
			log.stored(t)
			log.purge("purged:*")
			for _, master := range cluster.Masters(t) {
				require.Positive(t, master.Client(t).DBSize(t.Context()).Val())
			}
			disturb(t, cluster)
			cluster.Settle(t)
			log.stored(t)
			left := 0
			for _, master := range cluster.Masters(t) {
				found, err := master.Client(t).Keys(t.Context(), "purged:*").Result()
				require.NoError(t, err)
				left += len(found)
			}
			assert.Zero(t, left)
			log.neverLost(t)
		})
	}
}

// A migration that was abandoned half way: some keys of three slots are at other masters, which do not own them. One of those
// owns no slot at all.
func TestPurgeEndsWhileSlotsAreHalfMoved(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0))
	masters, rdb := cluster.Masters(t), cluster.Client(t)
	log := newMemoryLog(t, cluster.Options())
	log.write(t, "k:0")
	log.stored(t)
	first := masters[0].Slots(t)[0].First
	slots := []int{first, first + 1, first + 2}
	var keys []string
	for _, tag := range tagsOf(t, masters[0], slots) {
		for i := range 20 {
			keys = append(keys, "purged:"+strconv.Itoa(i)+"{"+tag+"}")
		}
	}
	fill(t, rdb, keys...)
	masters = append(masters, cluster.AddMaster(t))
	for i, slot := range slots {
		move := cluster.BeginMove(t, masters[0], masters[1+i], slot)
		require.Equal(t, 10, move.Keys(t, 10))
	}
	log.purge("purged:1*")
	log.stored(t)
	rest := func() (found []string) {
		for _, master := range masters {
			some, err := master.Client(t).Keys(t.Context(), "purged:*").Result()
			require.NoError(t, err)
			found = append(found, some...)
		}
		return found
	}
	for _, key := range rest() {
		assert.NotRegexp(t, "^purged:1", key)
	}
	log.write(t, keys...) // each where it is: there are two to ask
	assert.Empty(t, rest())
	log.neverLost(t)
}

// tagsOf returns a hash tag for each of the slots.
func tagsOf(t *testing.T, node *servers.Node, slots []int) []string {
	t.Helper()
	const candidates = 1 << 16 // some for every slot
	replies := make([]*redis.IntCmd, candidates)
	_, err := node.Client(t).Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for i := range replies {
			replies[i] = pipe.ClusterKeySlot(t.Context(), strconv.Itoa(i))
		}
		return nil
	})
	require.NoError(t, err)
	tags := make([]string, len(slots))
	for i, reply := range replies {
		if at := slices.Index(slots, int(reply.Val())); at >= 0 {
			tags[at] = strconv.Itoa(i)
		}
	}
	require.NotContains(t, tags, "")
	return tags
}
