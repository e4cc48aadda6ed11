package integration

import (
	"strconv"
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

// Anomalies 42 and 48: a delete is sent to a slot's old owner, which answers MOVED, and the pipeline's end succeeds.
func TestDeleteThatIsSentToASlotsOldOwnerIsSentAgain(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0))
	masters, rdb := cluster.Masters(t), cluster.Client(t)
	keys := cluster.KeysOn(t, masters[0], "k:", 3)
	log := newMemoryLog(t, cluster.Options())
	fill(t, rdb, keys...)
	log.write(t, "k:0")
	log.stored(t)

	t.Run("naive: the position at the end of the pipeline", func(t *testing.T) {
		cluster.MoveSlot(t, cluster.Slot(t, keys[0]), masters[0], masters[1])
		pipe := masters[0].Client(t).Pipeline()
		pipe.Unlink(t.Context(), keys[0])
		position := "naive:{" + keys[2] + "}"
		pipe.Set(t.Context(), position, "p1", 0)
		_, err := pipe.Exec(t.Context())
		require.ErrorContains(t, err, "MOVED")
		assert.Equal(t, "p1", rdb.Get(t.Context(), position).Val(), "the position passed")
		assert.Equal(t, keys[:1], present(t, rdb, keys[0]), "and the entry is stale for ever")
	})

	cluster.MoveSlot(t, cluster.Slot(t, keys[1]), masters[0], masters[2])
	log.write(t, keys...)
	assert.Empty(t, present(t, rdb, keys...), "at their owners, when Apply returns")
	log.stored(t)
	log.neverLost(t)
}

// A migration that has stopped half way: some keys of the slot are here, some there. The slot may be that of the position itself.
func TestDeletesReachASlotThatIsHalfMoved(t *testing.T) {
	t.Parallel()
	for kind, options := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for name, ofPosition := range map[string]bool{"a slot": false, "the slot of the position": true} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					cluster := servers.NewCluster(t, append(options, servers.WithReplicas(0))...)
					masters, rdb := cluster.Masters(t), cluster.Client(t)
					log := newMemoryLog(t, cluster.Options())
					log.write(t, "k:0")
					log.stored(t)
					key := cluster.KeyOn(t, masters[0], "k:")
					if ofPosition {
						kept, err := masters[0].Client(t).Keys(t.Context(), "inv:position:s*").Result()
						require.NoError(t, err)
						require.Len(t, kept, 1)
						key = "k:" + strings.TrimPrefix(kept[0], "inv:position:s")
					}
					tag := "{" + key + "}"
					if ofPosition {
						tag = key
					}
					keys := []string{key, tag + ":2", tag + ":3", tag + ":4"}
					fill(t, rdb, keys...)
					move := cluster.BeginMove(t, masters[0], masters[1], cluster.Slot(t, key))
					require.Positive(t, move.Keys(t, 2))
					if ofPosition { // the position is among those that are there
						for masters[0].Client(t).Exists(t.Context(), "inv:position:s"+strings.TrimPrefix(key, "k:")).Val() > 0 {
							move.Keys(t, 1)
						}
						fill(t, rdb, keys...)
					}
					log.write(t, keys...)
					log.stored(t)
					gone(t, rdb, keys...)

					fill(t, rdb, keys...)
					for moved := 1; moved > 0; {
						moved = move.Keys(t, 1000)
					}
					move.Finish(t)
					log.write(t, keys...)
					gone(t, rdb, keys...)
					log.stored(t)
					log.neverLost(t)
				})
			}
		})
	}
}

// A daemon begins while a migration that has stopped half way has taken a position along.
func TestPositionInASlotThatIsHalfMovedIsFound(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0))
	masters, rdb := cluster.Masters(t), cluster.Client(t)
	require.NoError(t, redissink.Set(t.Context(), redissink.Config{Redis: cluster.Options(), Namespace: "inv", Source: "s"}, "0"))
	kept, err := masters[0].Client(t).Keys(t.Context(), "inv:position:s*").Result()
	require.NoError(t, err)
	require.Len(t, kept, 1)
	move := cluster.BeginMove(t, masters[0], masters[1], cluster.Slot(t, kept[0]))
	require.Equal(t, 1, move.Keys(t, 1))
	key := cluster.KeyOn(t, masters[0], "k:")
	fill(t, rdb, key)

	log := newMemoryLog(t, cluster.Options())
	assert.NotContains(t, log.begun[0], "", "a position was lost")
	log.write(t, key)
	log.stored(t)
	gone(t, rdb, key)
	move.Finish(t)
	log.write(t, "k:0")
	log.stored(t)
	log.neverLost(t)
}

// A fourth master is added and gets slots of the others while deletes go on: nothing is missed, and nothing is purged.
func TestScaledOutClusterIsNotPurged(t *testing.T) {
	t.Parallel()
	for kind, options := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cluster := servers.NewCluster(t, append(options, servers.WithReplicas(0))...)
			rdb, log := cluster.Client(t), newMemoryLog(t, cluster.Options())
			log.write(t, "k:0")
			log.stored(t)
			keys := make([]string, 2000)
			for i := range keys {
				keys[i] = "k:" + strconv.Itoa(i)
			}
			setAll(t, rdb, keys)
			added := cluster.AddMaster(t)
			for i, from := range cluster.Masters(t)[:3] {
				for _, key := range keys[i*500 : (i+1)*500] {
					log.add(key)
				}
				cluster.MoveSlots(t, 1000, from, added)
			}
			for _, key := range keys[1500:] {
				log.add(key)
			}
			log.stored(t)
			gone(t, rdb, keys...)
			assert.Len(t, log.sink.Stored(), 4, "the new master remembers as well")

			onAdded := cluster.KeyOn(t, added, "k:")
			fill(t, rdb, onAdded)
			log.write(t, onAdded)
			assert.Empty(t, present(t, rdb, onAdded))
			log.neverLost(t)
		})
	}
}

// Valkey hands thousands of slots over in one moment, the positions' among them.
func TestSlotsThatMoveAtOnceAreFollowed(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.OnValkey())
	masters, rdb, log := cluster.Masters(t), cluster.Client(t), newMemoryLog(t, cluster.Options())
	log.write(t, "k:0")
	log.stored(t)
	stop := writeOn(t, rdb, log)
	for i, from := range masters {
		slots := from.Slots(t)[0]
		slots.Last -= 1000
		cluster.MoveSlotsAtOnce(t, from, masters[(i+1)%3], slots)
	}
	keys := stop()
	log.stored(t)
	assert.Empty(t, present(t, rdb, keys...), "of %d keys", len(keys))
	log.neverLost(t)
}

// A master gives all its slots away and leaves.
func TestScaledInClusterIsNotPurged(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0))
	masters, rdb := cluster.Masters(t), cluster.Client(t)
	log := newMemoryLog(t, cluster.Options())
	log.write(t, "k:0")
	log.stored(t)
	keys := cluster.KeysOn(t, masters[2], "k:", 100)
	setAll(t, rdb, keys)
	slots := masters[2].Slots(t)[0]
	half := (slots.Last - slots.First) / 2
	cluster.MoveSlots(t, half, masters[2], masters[0])
	log.write(t, keys[:50]...)
	cluster.MoveSlots(t, slots.Last-slots.First+1-half, masters[2], masters[1])
	log.write(t, keys[50:]...)
	masters[2].Kill(t)
	fill(t, rdb, keys...)
	log.write(t, keys...)
	log.stored(t)
	gone(t, rdb, keys...)
	log.neverLost(t)
}

// A new master gets its first slots and does not answer for a while: that it has no position yet is no reason to purge.
func TestNewMasterThatIsSlowAtFirstIsNotPurged(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0), servers.WithPartialCoverage())
	log := newMemoryLog(t, cluster.Options())
	log.write(t, "k:0")
	log.stored(t)
	added := cluster.AddMaster(t)
	cluster.MoveSlots(t, 10, cluster.Masters(t)[0], added)
	added.Freeze(t)
	log.seen.await(t, invalidation.Waiting, log.seen.count(invalidation.Waiting))
	added.Resume(t)
	log.write(t, "k:1")
	log.stored(t)
	log.neverLost(t)
}

// The masters remember different positions, because one failed over, and a purge holds what is newer: one that joins then gets the
// position of the master whose slots it got.
func TestNewMasterGetsThePositionOfItsSlots(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0))
	masters, rdb := cluster.Masters(t), cluster.Client(t)
	cfg := redissink.Config{Redis: cluster.Options(), Namespace: "inv", Source: "s", PurgeRate: 20, Observer: logTo(t, newEvents())}
	require.NoError(t, redissink.Set(t.Context(), cfg, "5"))
	remembersOlder(t, rdb, masters[0])
	keys := make([]string, 2000)
	for i := range keys {
		keys[i] = "x:" + strconv.Itoa(i)
	}
	setAll(t, rdb, keys)
	sink, err := redissink.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { sink.Close() })
	runSink(t, sink)
	positions, err := sink.Positions(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"3", "5", "5"}, positions)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Patterns: []string{"x:*"}, Position: "6"}))
	added := cluster.AddMaster(t)
	cluster.MoveSlots(t, 10, masters[0], added)
	require.Eventually(t, func() bool {
		require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
		return len(sink.Stored()) == 4
	}, 10*time.Second, 50*time.Millisecond)
	assert.ElementsMatch(t, []string{"3", "3", "5", "5"}, sink.Stored())
}

// A master that was drained has left an older position with its slots: both count, for a replay and for what the outbox may cut.
func TestEveryPositionOfAMasterCounts(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0))
	masters, rdb := cluster.Masters(t), cluster.Client(t)
	cfg := redissink.Config{Redis: cluster.Options(), Namespace: "inv", Source: "s", Observer: logTo(t, newEvents())}
	require.NoError(t, redissink.Set(t.Context(), cfg, "5"))
	remembersOlder(t, rdb, masters[2])
	slots := masters[2].Slots(t)[0]
	cluster.MoveSlots(t, slots.Last-slots.First+1, masters[2], masters[0])
	sink, err := redissink.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { sink.Close() })
	runSink(t, sink)
	positions, err := sink.Positions(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"3", "5", "5"}, positions)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.ElementsMatch(t, []string{"3", "5", "5"}, sink.Stored())
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "6"}))
	for range 2 {
		require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	}
	assert.Equal(t, []string{"6", "6"}, sink.Stored())
}

// remembersOlder turns the position 5 of a master into 3.
func remembersOlder(t *testing.T, rdb redis.Cmdable, master *servers.Node) {
	t.Helper()
	kept, err := master.Client(t).Keys(t.Context(), "inv:position:s*").Result()
	require.NoError(t, err)
	require.Len(t, kept, 1)
	value, found := strings.CutSuffix(rdb.Get(t.Context(), kept[0]).Val(), " 5")
	require.True(t, found)
	require.NoError(t, rdb.Set(t.Context(), kept[0], value+" 3", 0).Err())
}

// A migration was abandoned half way: the old owner sends what it does not have to another one, which sends it back.
func TestOpenSlotIsNamed(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0))
	masters := cluster.Masters(t)
	log := newMemoryLog(t, cluster.Options())
	absent := cluster.KeyOn(t, masters[0], "absent:")
	slot := cluster.Slot(t, absent)
	open := func(args ...any) {
		require.NoError(t, masters[0].Client(t).Do(t.Context(), append([]any{"CLUSTER", "SETSLOT", slot}, args...)...).Err())
	}
	open("MIGRATING", masters[1].ID(t))
	log.add(absent)
	log.seen.await(t, invalidation.Waiting, 0)
	require.ErrorContains(t, log.seen.last(invalidation.Waiting).Err,
		"the slot "+strconv.Itoa(slot)+" is on its way to "+masters[1].Addr()+", which does not take it")
	open("STABLE")
	log.await(t, "the delete", func() bool { return log.applied == 1 })
}
