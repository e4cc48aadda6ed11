package integration

import (
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// leaseKey is where the Sinks of these tests keep their lease: the failover of its master is the hardest one.
const leaseKey = "inv:leader:s"

// Anomaly 35 in a cluster: one of three masters dies with deletes that its replica never saw.
func TestClusterFailoverThatLosesADeleteIsReplayed(t *testing.T) {
	t.Parallel()
	type victim struct {
		ofLease bool
		fail    func(*servers.Node, testing.TB)
	}
	for name, victim := range map[string]victim{
		"the master with the lease is killed": {true, (*servers.Node).Kill},
		"the master with the lease is frozen": {true, (*servers.Node).Freeze},
		"another master is killed":            {false, (*servers.Node).Kill},
		"another master is frozen":            {false, (*servers.Node).Freeze},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for kind, options := range kinds() {
				t.Run(kind, func(t *testing.T) {
					t.Parallel()
					cluster := servers.NewCluster(t, options...)
					master := cluster.Owner(t, cluster.Slot(t, leaseKey))
					if !victim.ofLease {
						master = without(cluster.Masters(t), master)[0]
					}
					replica, rdb := cluster.Replicas(t, master)[0], cluster.Client(t)
					log := newMemoryLog(t, cluster.Options())
					lost := cluster.KeysOn(t, master, "k:", 3)
					kept := cluster.KeyOn(t, without(cluster.Masters(t), master)[0], "k:")
					fill(t, rdb, append(lost, kept)...)
					log.write(t, lost[0])
					log.stored(t)
					master.LoseReplication(t)
					log.write(t, append(lost[1:], kept)...)
					log.stored(t)
					require.Empty(t, present(t, rdb, append(lost, kept)...))

					victim.fail(master, t)
					promoted, at := servers.Promoted(t, replica)
					when, positions := log.resumes(t)
					soon(t, when.Sub(at))
					assert.ElementsMatch(t, []string{"1", "2", "2"}, positions, "the oldest is that of the promoted one")
					gone(t, promoted.Client(t), lost...)
					log.stored(t)
				})
			}
		})
	}
}

// Anomalies 36, 37 and 49 in a cluster: what keeps a position per cluster, or compares it without a nonce, notices nothing.
func TestNaivePositionsDoNotNoticeAClusterFailover(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t)
	master := cluster.Masters(t)[0]
	other, replica := cluster.Masters(t)[1], cluster.Replicas(t, master)[0]
	keys, elsewhere := cluster.KeysOn(t, master, "k:", 2), cluster.KeyOn(t, other, "naive:")
	position := "naive:{" + keys[0] + "}"
	rdb := cluster.Client(t)
	fill(t, rdb, keys...)
	require.NoError(t, rdb.Set(t.Context(), position, "p1", 0).Err())
	log := newMemoryLog(t, cluster.Options())
	log.write(t, "k:0")
	log.stored(t)
	master.LoseReplication(t)
	log.write(t, keys...)
	master.Kill(t)
	promoted, at := servers.Promoted(t, replica)
	after := promoted.Client(t)

	t.Run("one position for the whole cluster", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, other.Client(t).Set(t.Context(), elsewhere, "p2", 0).Err())
		assert.Equal(t, "p2", other.Client(t).Get(t.Context(), elsewhere).Val(), "its master did not fail over")
	})
	t.Run("a position that is compared, without a nonce", func(t *testing.T) {
		t.Parallel()
		// The deletes were a chunk of a transaction, so p1 is what was written last.
		assert.Equal(t, "p1", after.Get(t.Context(), position).Val(), "nothing seems wrong")
	})

	when, positions := log.resumes(t)
	soon(t, when.Sub(at))
	assert.Contains(t, positions, "1")
	gone(t, after, keys...)
}

// An orderly failover loses nothing, so nothing is replayed, and above all nothing is purged.
func TestClusterFailoverInOrderNeedsNoReplay(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t)
	rdb, log := cluster.Client(t), newMemoryLog(t, cluster.Options())
	log.write(t, "k:0")
	log.stored(t)
	for round := range 2 {
		var keys []string
		for i := range 30 {
			keys = append(keys, "k:"+strconv.Itoa(round)+":"+strconv.Itoa(i))
		}
		fill(t, rdb, keys...)
		cluster.Failover(t, cluster.Masters(t)[round])
		for _, key := range keys {
			log.add(key)
		}
		log.stored(t)
		gone(t, rdb, keys...)
		cluster.Settle(t)
	}
	log.neverLost(t)
	resumed, reasons := log.count()
	assert.Zero(t, resumed, reasons)
}

// A master that has no replica dies, or refuses writes: the others go on, and it is caught up from its own position when it is back.
func TestDeadMasterHoldsNobodyUpAndIsCaughtUp(t *testing.T) {
	t.Parallel()
	killed := func(t *testing.T, node *servers.Node) (heal func()) {
		t.Helper()
		node.Kill(t)
		return func() { node.Start(t) }
	}
	frozen := func(t *testing.T, node *servers.Node) (heal func()) { // it answers nothing, and refuses no connection
		t.Helper()
		node.Freeze(t)
		return func() { node.Resume(t) }
	}
	refusing := func(t *testing.T, node *servers.Node) (heal func()) { // it says NOREPLICAS
		t.Helper()
		set := func(replicas string) {
			require.NoError(t, node.Client(t).ConfigSet(t.Context(), "min-replicas-to-write", replicas).Err())
		}
		set("1")
		return func() { set("0") }
	}
	for name, of := range map[string]struct {
		lease bool
		fail  func(*testing.T, *servers.Node) (heal func())
		late  bool // what was sent to it meanwhile arrives in the end
		reads bool // it answers reads all the time
	}{
		"with the lease": {lease: true, fail: killed}, "without the lease": {fail: killed},
		"frozen, with the lease": {lease: true, fail: frozen, late: true}, "frozen, without the lease": {fail: frozen, late: true},
		"refusing, without the lease": {fail: refusing, reads: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := servers.NewCluster(t, servers.WithReplicas(0), servers.WithPartialCoverage(),
				servers.WithArgs("--appendonly", "yes", "--appendfsync", "always", "--cluster-allow-reads-when-down", "yes"))
			masters, rdb := cluster.Masters(t), cluster.Client(t)
			dead := cluster.Owner(t, cluster.Slot(t, leaseKey))
			if !of.lease {
				dead = without(masters, dead)[0]
			}
			alive := without(masters, dead)
			log := newMemoryLog(t, cluster.Options())
			kept := cluster.KeysOn(t, dead, "k:", 2)
			others := append(cluster.KeysOn(t, alive[0], "k:", 2), cluster.KeysOn(t, alive[1], "k:", 2)...)
			fill(t, rdb, append(kept, others...)...)
			log.write(t, "k:0")
			log.stored(t)

			heal := of.fail(t, dead)
			log.add(append(kept, others...)...)
			gone(t, alive[0].Client(t), others[:2]...)
			gone(t, alive[1].Client(t), others[2:]...)
			for range 3 { // and go on doing so
				log.write(t, others...)
			}
			old := func() { assert.Equal(t, kept, present(t, dead.Client(t), kept...), "it has the old entries") }
			if of.reads {
				old() // once it is healed it may be caught up at any moment
			}
			if heal(); !of.late && !of.reads {
				old() // it takes no writes in its first two seconds
			}
			_, positions := log.resumes(t)
			assert.Contains(t, positions, "1", "its own")
			gone(t, rdb, append(kept, others...)...)
			log.stored(t)
			log.neverLost(t)
		})
	}
}

// A purge goes on without a master that is left behind, and says so: nothing makes up for it but another one.
func TestPurgeTellsWhichMasterItLeftOut(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0), servers.WithPartialCoverage())
	masters := cluster.Masters(t)
	dead := without(masters, cluster.Owner(t, cluster.Slot(t, leaseKey)))[0]
	log := newMemoryLog(t, cluster.Options())
	key := cluster.KeyOn(t, dead, "k:")
	log.write(t, "k:0")
	log.stored(t)
	dead.Freeze(t)
	log.write(t, key) // it is left behind then
	require.NoError(t, log.sink.Apply(t.Context(), invalidation.Batch{Patterns: []string{"p:*"}}))
	log.seen.await(t, invalidation.PurgeDone, 0)
	require.ErrorContains(t, log.seen.last(invalidation.PurgeDone).Err, dead.Addr()+" could not be reached: a purge by hand has to be repeated")
	err := log.sink.Rewind(t.Context(), func([]string) (string, error) { return "0", nil })
	require.ErrorContains(t, err, dead.Addr()+" can not be reached", "nor would it take part in a replay")
	dead.Resume(t)
	log.resumes(t)
}

// A replay is not done where a master dies while it gets the position.
func TestReplayTellsWhichMasterDidNotGetThePosition(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0), servers.WithPartialCoverage())
	dead := without(cluster.Masters(t), cluster.Owner(t, cluster.Slot(t, leaseKey)))[0]
	log := newMemoryLog(t, cluster.Options())
	log.write(t, "k:0")
	log.stored(t)
	err := log.sink.Rewind(t.Context(), func([]string) (string, error) {
		dead.Kill(t)
		return "0", nil
	})
	require.ErrorContains(t, err, dead.Addr()+" can not be reached")
	log.resumes(t)
}

// The lease is in one slot, whose master may be down for an hour. A daemon that starts meanwhile still serves the others.
func TestDaemonBeginsWhileTheMasterOfTheLeaseIsDead(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0), servers.WithPartialCoverage())
	dead := cluster.Owner(t, cluster.Slot(t, leaseKey))
	alive := without(cluster.Masters(t), dead)[0]
	key := cluster.KeyOn(t, alive, "k:")
	fill(t, cluster.Client(t), key)
	dead.Kill(t)
	log := newMemoryLog(t, cluster.Options())
	log.add(key)
	gone(t, alive.Client(t), key)
}

// Redis is full and evicts nothing: deletes are what helps, and the position is stored all the same.
func TestFullMasterStillDeletes(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0), servers.WithArgs("--maxmemory", "12mb", "--maxmemory-policy", "noeviction"))
	master, rdb := cluster.Masters(t)[0], cluster.Client(t)
	log := newMemoryLog(t, cluster.Options())
	value := make([]byte, 50_000)
	var full []string
	for _, key := range cluster.KeysOn(t, master, "k:", 400) {
		if err := rdb.Set(t.Context(), key, value, 0).Err(); err != nil {
			require.ErrorContains(t, err, "OOM")
			break
		}
		full = append(full, key)
	}
	require.Less(t, len(full), 400)
	log.write(t, "absent")
	log.stored(t)
	log.write(t, full...)
	log.stored(t)
	assert.Empty(t, present(t, rdb, full...))
	resumed, reasons := log.count()
	assert.Zero(t, resumed, reasons)
}

func setAll(t *testing.T, rdb redis.Cmdable, keys []string) {
	t.Helper()
	pipe := rdb.Pipeline()
	for _, key := range keys {
		pipe.Set(t.Context(), key, "stale", 0)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
}

func without(nodes []*servers.Node, one *servers.Node) []*servers.Node {
	var others []*servers.Node
	for _, node := range nodes {
		if node != one {
			others = append(others, node)
		}
	}
	return others
}
