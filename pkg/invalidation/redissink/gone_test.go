package redissink

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// A master dies, is left behind, and its slots are given to another one. Until
// that is seen, deletes are left to the dead one.
func TestWhatWasLeftToAMasterThatIsGoneIsDeletedWhereItsSlotsAreNow(t *testing.T) {
	t.Parallel()
	for name, forgotten := range map[string]bool{"forgotten before": true, "not forgotten": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := miniredis.RunT(t), miniredis.RunT(t)
			sink, cluster, _ := clusterOf(t, a, b)
			_, err := sink.Positions(t.Context())
			require.NoError(t, err)
			for range 2 {
				require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
			}
			b.Close()
			if forgotten {
				cluster.loses()
				require.NoError(t, sink.look(t.Context()))
			}
			sink.current()[1].state.fails(time.Now().Add(-time.Hour))
			sink.current()[1].state.leave()

			cluster.has(a.Addr(), "") // the Sink has not asked yet
			key := "k" + slotTags()[slots-1]
			require.NoError(t, a.Set(key, "old"))
			require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{key}, Position: "p2"}))
			require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p3"}))
			require.True(t, a.Exists(key), "else this proves nothing")
			require.NoError(t, sink.look(t.Context()))
			require.ErrorIs(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p4"}), invalidation.ErrResume)
			for range 2 { // it begins again once more before anything was stored
				positions, err := sink.Positions(t.Context())
				require.NoError(t, err)
				assert.Equal(t, []string{"p2", "p1"}, positions)
				assert.Contains(t, sink.Stored(), "p1", "what is behind it must not be pruned")
				require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{key}, Position: "p2"}))
			}
			assert.False(t, a.Exists(key))
			require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p3"}))
			positions, err := sink.Positions(t.Context())
			require.NoError(t, err)
			assert.Equal(t, []string{"p2"}, positions)
		})
	}
}

func TestNobodyWaitsForAMasterThatWasReplacedWhileItWasAskedForItsPosition(t *testing.T) {
	t.Parallel()
	a, b, c := miniredis.RunT(t), miniredis.RunT(t), miniredis.RunT(t)
	sink, cluster, seen := clusterOf(t, a, b)
	addr := b.Addr()
	b.Close()
	done := positions(t, sink)
	seen.await(t, invalidation.Waiting, "redis "+addr)
	cluster.has(a.Addr(), c.Addr())
	require.NoError(t, sink.look(t.Context()))
	require.NoError(t, <-done)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.NotContains(t, seen.waiting(), "redis "+addr)
}

// onWaiting does something just before it is heard that the layout is unknown.
type onWaiting struct {
	*heard

	do func()
}

func (o *onWaiting) Observe(e invalidation.Event) {
	if do := o.do; e.Kind == invalidation.Waiting && e.Part == partLayout && do != nil {
		o.do = nil
		do()
	}
	o.heard.Observe(e)
}

func TestALayoutThatIsKnownAgainWhileItIsToldThatItIsNotIsToldInTheEnd(t *testing.T) {
	t.Parallel()
	seen := &onWaiting{heard: listen()}
	sink, _ := instance(t, miniredis.RunT(t), func(c *Config) { c.Observer = seen })
	asked := &mute{topology: sink.topology}
	sink.topology = asked
	asked.is.Store(true)
	seen.do = func() {
		asked.is.Store(false)
		assert.NoError(t, sink.look(t.Context()))
	}
	require.Error(t, sink.look(t.Context()))
	require.NoError(t, sink.look(t.Context()))
	assert.Empty(t, seen.waiting())
}

func TestAPurgeThatOnceCouldNotAskForTheSlotsOnTheMoveIsNotWaitingForGood(t *testing.T) {
	t.Parallel()
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	sink, _, seen := clusterOf(t, a, b)
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	var failed atomic.Bool
	for _, one := range []*miniredis.Miniredis{a, b} {
		one.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
			switch {
			case cmd != "CLUSTER" || len(args) == 0 || args[0] != "NODES" && args[0] != "nodes":
				return false
			case failed.CompareAndSwap(false, true):
				c.WriteError("BUSY once")
			default:
				c.WriteBulk("")
			}
			return true
		})
	}
	require.NoError(t, sink.purge(t.Context(), &purge{pattern: "k:*"}))
	assert.True(t, failed.Load())
	assert.Empty(t, seen.waiting())
}
