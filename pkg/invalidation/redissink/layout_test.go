package redissink

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// clusterOf returns a Sink of a cluster in which b has the last slots.
func clusterOf(t *testing.T, a, b *miniredis.Miniredis) (*Sink, *fakeCluster, *heard) {
	t.Helper()
	seen := listen()
	sink, err := New(Config{
		Redis:     &redis.UniversalOptions{Addrs: []string{a.Addr()}, IsClusterMode: true},
		Namespace: "ns", Source: "src", Observer: seen,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sink.Close()) })
	cluster := &fakeCluster{}
	cluster.has(a.Addr(), b.Addr())
	sink.topology = cluster
	return sink, cluster, seen
}

// loses takes the last slots from whoever has them.
func (f *fakeCluster) loses() {
	was := *f.at.Load().owner
	in := &layout{masters: f.at.Load().masters[:1], owner: &was}
	for slot := slots - 100; slot < slots; slot++ {
		in.owner[slot] = ""
	}
	f.at.Store(in)
}

// answersMoved has a server send clients on with a slot, as one does that some
// CLUSTER SETSLOT took it from.
func answersMoved(one *miniredis.Miniredis, slot int, to string) {
	one.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		if cmd == "GET" && slotOf(args[0]) == slot || cmd == "UNLINK" && slotOf(args[0]) == slot {
			c.WriteError("MOVED " + strconv.Itoa(slot) + " " + to)
			return true
		}
		return false
	})
}

func TestASlotThatTwoMastersGiveToEachOtherIsNamed(t *testing.T) {
	t.Parallel()
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	answersMoved(a, 7, b.Addr())
	sink, _, seen := clusterOf(t, a, b)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(cancel)
	all.Go(func() { _, _ = sink.Positions(ctx) })
	e := seen.hears(t, invalidation.Waiting, "redis "+a.Addr())
	for _, want := range []string{"do not agree", "slot 7,", a.Addr() + "'s", "redis-cli --cluster check", "redis-cli --cluster fix", "MOVED 7 " + b.Addr()} {
		require.ErrorContains(t, e.Err, want)
	}
	cancel()
	all.Wait()

	a.Server().SetPreHook(nil)
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	answersMoved(a, 7, b.Addr())
	deleting, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	all.Go(func() { _ = sink.Apply(deleting, invalidation.Batch{Keys: []string{"k" + slotTags()[7]}}) })
	e = seen.hears(t, invalidation.Waiting, invalidation.PartCache)
	require.ErrorContains(t, e.Err, "delete: the masters do not agree on who serves the slot 7,")
	stop()
}

// A master that is dead and forgotten still has its entries, and its position.
func TestSlotsThatNobodyServesStayWithTheMasterThatHadThem(t *testing.T) {
	t.Parallel()
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	sink, cluster, seen := clusterOf(t, a, b)
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	before := sink.seen.Load()
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	cluster.loses()
	require.NoError(t, sink.look(t.Context()))
	assert.True(t, before.equal(sink.seen.Load()))
	e := seen.hears(t, invalidation.Waiting, "redis slots")
	require.ErrorContains(t, e.Err, "16284-16383")
	require.ErrorContains(t, e.Err, "redis-cli --cluster fix")

	key := "k" + slotTags()[slots-1]
	require.NoError(t, b.Set(key, "v"))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{key}, Position: "p2"}))
	assert.False(t, b.Exists(key), "it serves them after all")
	cluster.has(a.Addr(), b.Addr())
	require.NoError(t, sink.look(t.Context()))
	seen.hears(t, invalidation.Working, "redis slots")
}

// Its deletes may have passed by: a daemon that began after it was forgotten
// does not know of it.
func TestAMasterOfSlotsThatNoneHadBeforeIsAskedForItsPosition(t *testing.T) {
	t.Parallel()
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	sink, cluster, seen := clusterOf(t, a, b)
	cluster.loses()
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	seen.hears(t, invalidation.Waiting, "redis slots")
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	cluster.has(a.Addr(), b.Addr())
	require.NoError(t, sink.look(t.Context()))
	require.ErrorIs(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p2"}), invalidation.ErrResume)
	positions, err := sink.Positions(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"", ""}, positions)
}

func TestSlotsAreWrittenAsRanges(t *testing.T) {
	t.Parallel()
	for want, owned := range map[string][]int{
		"": {}, "0": {0}, "0-1": {0, 1}, "0-2, 5, 7-8": {0, 1, 2, 5, 7, 8}, "3, 5, 7": {3, 5, 7},
	} {
		assert.Equal(t, want, ranges(owned))
	}
}

// mute is a cache that nobody tells the layout of.
type mute struct {
	topology

	is atomic.Bool
}

func (m *mute) ask(ctx context.Context) (*layout, error) {
	if m.is.Load() {
		return nil, errors.New("no Sentinel answers")
	}
	return m.topology.ask(ctx)
}

// Nobody says which server is the master, and the one that was answers: the
// purge waits at its end, and what is filled meanwhile stays.
func TestAPurgeWaitsForTheLayoutAtItsEnd(t *testing.T) {
	t.Parallel()
	one := miniredis.RunT(t)
	sink, seen := instance(t, one, func(c *Config) { c.PurgeRate = -1 })
	asked := &mute{topology: sink.topology}
	sink.topology = asked
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	require.NoError(t, one.Set("k:1", "stale"))
	asked.is.Store(true)
	done := make(chan error, 1)
	go func() { done <- sink.purge(t.Context(), &purge{pattern: "k:*"}) }()
	seen.hears(t, invalidation.PurgeStarted, invalidation.PartCache)
	seen.hears(t, invalidation.Waiting, "redis layout")
	assert.False(t, one.Exists("k:1"))
	require.NoError(t, one.Set("k:2", "fresh"))
	for range 3 {
		seen.hears(t, invalidation.Waiting, "redis layout")
		require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	}
	asked.is.Store(false)
	require.NoError(t, <-done)
	assert.True(t, one.Exists("k:2"), "it was purged again and again")
	seen.hears(t, invalidation.Working, "redis layout")
	assert.Equal(t, 1, seen.hears(t, invalidation.PurgeDone, invalidation.PartCache).Count)
}
