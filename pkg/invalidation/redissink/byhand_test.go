package redissink

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// closes makes a server refuse the deletes of keys that begin with "closed:",
// as an ACL does.
func closes(to *miniredis.Miniredis) {
	to.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		if cmd != "UNLINK" || !strings.Contains(" "+strings.Join(args, " "), " closed:") {
			return false
		}
		c.WriteError("NOPERM No permissions to access a key")
		return true
	})
}

// working returns a Sink that works until the test ends.
func working(t *testing.T, to *miniredis.Miniredis, change func(*Config)) (*Sink, *heard) {
	t.Helper()
	sink, seen := instance(t, to, change)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- sink.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	require.NoError(t, <-positions(t, sink))
	return sink, seen
}

func TestAPurgeByHandSaysWhatItLeftAndParksNothing(t *testing.T) {
	t.Parallel()
	to := miniredis.RunT(t)
	closes(to)
	for _, key := range []string{"closed:1", "closed:2", "closed:3", "closer"} {
		require.NoError(t, to.Set(key, "x"))
	}
	sink, seen := working(t, to, func(c *Config) { c.MaxParked = 1 })
	require.NoError(t, sink.Purge(t.Context(), "close*"))
	done := seen.await(t, invalidation.PurgeDone)
	assert.True(t, done.ByHand)
	assert.Equal(t, 1, done.Count)
	require.EqualError(t, done.Err, "3 keys were refused and stay: let the daemon's user delete them, and purge again: NOPERM No permissions to access a key")
	parked, err := sink.Parked(t.Context())
	require.NoError(t, err)
	assert.Empty(t, parked)

	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Patterns: []string{"closed:1*"}, Position: "p1"}))
	assert.Equal(t, 1, seen.await(t, invalidation.Parked).Count, "what a position waits for is parked")
}

func TestAPurgeByHandHoldsNoPosition(t *testing.T) {
	t.Parallel()
	sink, to := setup(t)
	require.ErrorIs(t, sinkBefore(t, to).Purge(t.Context(), "a*"), invalidation.ErrResume)
	require.NoError(t, sink.Purge(t.Context(), "a*"), "nothing runs that purges")
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Equal(t, "p1", stored(t, to))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Patterns: []string{"a*"}, Position: "p2"}))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Equal(t, "p1", stored(t, to), "one that a source asked for does")
}

// sinkBefore returns one that was not asked for its positions.
func sinkBefore(t *testing.T, to *miniredis.Miniredis) *Sink {
	t.Helper()
	sink, _ := instance(t, to, nil)
	return sink
}

func TestAPurgeSaysHowFarItIsWhileItIsThrottled(t *testing.T) {
	t.Parallel()
	to := miniredis.RunT(t)
	for i := range 50 {
		require.NoError(t, to.Set("k:"+strconv.Itoa(i), "x"))
	}
	sink, seen := working(t, to, func(c *Config) { c.PurgeRate = 100 })
	require.NoError(t, sink.Purge(t.Context(), "k:*"))
	seen.await(t, invalidation.PurgeDone)
	seen.mu.Lock()
	defer seen.mu.Unlock()
	var told []int
	for _, e := range seen.events {
		if e.Kind == invalidation.PurgeProgress {
			told = append(told, e.Count)
		}
	}
	assert.Equal(t, []int{10, 20, 30, 40, 50, 50}, told, "ten in a tenth of a second, all of one SCAN")
}

func TestParkedKeysAreForgottenWithoutBeingDeleted(t *testing.T) {
	t.Parallel()
	to := miniredis.RunT(t)
	closes(to)
	sink, seen := working(t, to, func(c *Config) { c.MaxParked = 2 })
	require.NoError(t, to.Set("closed:1", "x"))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"closed:1", "closed:2"}}))
	waits := make(chan error, 1)
	go func() {
		waits <- sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"closed:3"}, Position: "p1"})
	}()
	seen.await(t, invalidation.Waiting)

	forgotten, err := sink.Forget(t.Context(), "closed:2", "closed:9")
	require.NoError(t, err)
	assert.Equal(t, 1, forgotten)
	select {
	case err := <-waits:
		require.NoError(t, err, "there is room again")
	case <-time.After(20 * time.Second):
		t.Fatal("Apply still waits")
	}
	parked, err := sink.Parked(t.Context())
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"closed:1", "closed:3"}, []string{parked[0].Key, parked[1].Key})
	forgotten, err = sink.Forget(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, forgotten)
	parked, err = sink.Parked(t.Context())
	require.NoError(t, err)
	assert.Empty(t, parked)
	assert.True(t, to.Exists("closed:1"))
	seen.mu.Lock()
	defer seen.mu.Unlock()
	last := invalidation.Event{}
	for _, e := range seen.events {
		if e.Kind == invalidation.Parked {
			last = e
		}
	}
	assert.Equal(t, invalidation.Event{Kind: invalidation.Parked, Part: invalidation.PartCache}, last, "none is parked any more")
}
