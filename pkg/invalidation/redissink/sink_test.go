package redissink

import (
	"strconv"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const positionKey = "ns:position:src"

// setup returns a Sink of a fresh server that has asked for its positions.
func setup(t *testing.T) (*Sink, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.RunT(t)
	sink, err := New(Config{Redis: &redis.Options{Addr: server.Addr()}, Namespace: "ns", Source: "src"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sink.Close()) })
	positions, err := sink.Positions(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{""}, positions)
	return sink, server
}

// stored returns the position that the server remembers.
func stored(t *testing.T, server *miniredis.Miniredis) string {
	t.Helper()
	value, err := server.Get(positionKey)
	require.NoError(t, err)
	position, err := positionOf(positionKey, value)
	require.NoError(t, err)
	return position
}

func TestEveryPipelineWritesANewNonce(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	seen := map[string]bool{}
	for range 5 {
		require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}}))
		value, err := server.Get(positionKey)
		require.NoError(t, err)
		assert.False(t, seen[value])
		seen[value] = true
	}
}

func TestPositionFollowsItsDeletesByOnePipeline(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	require.NoError(t, server.Set("k", "v"))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}, Position: "p1"}))
	assert.False(t, server.Exists("k"))
	assert.Empty(t, stored(t, server))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}, Position: "p2"}))
	assert.Equal(t, "p1", stored(t, server))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}}))
	assert.Equal(t, "p2", stored(t, server))
}

func TestABatchOfAnySizeIsDeleted(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	keys := make([]string, 3*keysPerPipeline+1)
	for i := range keys {
		keys[i] = "k:" + strconv.Itoa(i)
		require.NoError(t, server.Set(keys[i], "v"))
	}
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: keys}))
	assert.Equal(t, []string{positionKey}, server.Keys())
}

func TestAPositionThatSomebodyElseWroteMakesTheSourceResume(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	older := newValue("p0")
	require.NoError(t, server.Set(positionKey, older))
	require.ErrorIs(t, sink.Apply(t.Context(), invalidation.Batch{}), invalidation.ErrResume)
	require.ErrorIs(t, sink.Apply(t.Context(), invalidation.Batch{}), invalidation.ErrResume, "until it asks for the positions")
	positions, err := sink.Positions(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"p0"}, positions)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
}

func TestAPositionThatIsGoneAfterAReconnectMakesTheSourceResume(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	server.Close()
	server.FlushAll()
	require.NoError(t, server.Restart())
	require.ErrorIs(t, sink.Apply(t.Context(), invalidation.Batch{}), invalidation.ErrResume)
}

func TestAScriptThatRedisForgotIsLoadedAgain(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	flush := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer flush.Close()
	require.NoError(t, flush.ScriptFlush(t.Context()).Err())
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Equal(t, "p1", stored(t, server))
}

func TestAValueOfAnotherVersionIsFatal(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	for _, value := range []string{"2 012345678901234567890123 p", "nonsense", "1 short p"} {
		require.NoError(t, server.Set(positionKey, value))
		_, err := sink.Positions(t.Context())
		require.ErrorIs(t, err, invalidation.ErrFatal, value)
		require.ErrorContains(t, err, positionKey)
	}
}

func TestWrongConfigIsRefusedAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(Config{})
	for _, want := range []string{"Redis is nil", "Namespace is empty", "Source is empty"} {
		require.ErrorContains(t, err, want)
	}
}
