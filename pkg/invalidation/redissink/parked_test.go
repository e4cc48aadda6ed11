package redissink

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func TestForgettingIsTold(t *testing.T) {
	t.Parallel()
	to := miniredis.RunT(t)
	to.HSet("ns:parked:src", "ada@x", "why", "bob@x", "why")
	sink, seen := working(t, to, nil)
	_, err := sink.Forget(t.Context(), "cid@x")
	require.NoError(t, err)
	forgotten, err := sink.Forget(t.Context(), "ada@x")
	require.NoError(t, err)
	assert.Equal(t, 1, forgotten)
	assert.Equal(t, "1 parked keys were forgotten, not deleted", seen.await(t, invalidation.Noted).Text, "no key")
}

func TestAKeyThatIsParkedWhileOthersAreForgottenCounts(t *testing.T) {
	t.Parallel()
	to := miniredis.RunT(t)
	to.HSet("ns:parked:src", "ada@x", "why")
	sink, seen := working(t, to, nil)
	to.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
		if cmd == "HDEL" {
			to.HSet("ns:parked:src", "late", "why")
		}
		return false
	})
	_, err := sink.Forget(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, seen.await(t, invalidation.Parked).Count)
}

func TestWhatIsForgottenBeforeASlotFailsIsTold(t *testing.T) {
	t.Parallel()
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	sink, _, seen := clusterOf(t, a, b)
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	a.HSet(sink.parkedIn(0), "ada@x", "why") // miniredis says that it has all slots
	a.HSet(sink.parkedIn(slots-1), "bob@x", "why")
	a.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		if cmd != "HDEL" || args[0] == sink.parkedIn(0) {
			return false
		}
		c.WriteError("MISCONF no")
		return true
	})
	forgotten, err := sink.Forget(t.Context())
	require.ErrorContains(t, err, "MISCONF")
	assert.Equal(t, 1, forgotten)
	assert.Equal(t, 1, seen.await(t, invalidation.Parked).Count, "one is left")
	assert.Equal(t, "1 parked keys were forgotten, not deleted", seen.hears(t, invalidation.Noted, invalidation.PartCache).Text)
}
