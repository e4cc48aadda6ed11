package integration

import (
	"context"
	"slices"
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

func TestPositionIsStoredOnePipelineAfterItsDeletes(t *testing.T) {
	t.Parallel()
	server := servers.Redis(t)
	rdb, source := server.Client(t), servers.Prefix(t)
	sink := newSink(t, server.Addr(), source, nil)
	positions, err := sink.Positions(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{""}, positions)

	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{source + "k"}, Position: "p1"}))
	assert.Empty(t, storedPosition(t, rdb, source))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Equal(t, "p1", storedPosition(t, rdb, source))

	require.NoError(t, sink.Release(t.Context()))
	positions, err = newSink(t, server.Addr(), source, nil).Positions(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"p1"}, positions)
}

// Anomaly 48: a pipeline goes on after NOPERM, and a position at its end passes
// the delete that did not happen.
func TestPositionDoesNotPassARefusedDelete(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t)
	admin := server.Client(t)
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "relay", "on", ">pw", "+@all", "~inv:*", "~open:*").Err())
	require.NoError(t, admin.MSet(t.Context(), "open:1", "old", "closed:1", "old").Err())
	options := &redis.UniversalOptions{Addrs: []string{server.Addr()}, Username: "relay", Password: "pw"}

	t.Run("naive: position at the end of the pipeline", func(t *testing.T) {
		naive := redis.NewClient(options.Simple())
		defer naive.Close()
		pipe := naive.Pipeline()
		pipe.Unlink(t.Context(), "open:1")
		pipe.Unlink(t.Context(), "closed:1")
		pipe.Set(t.Context(), "inv:naive", "p1", 0)
		_, err := pipe.Exec(t.Context())
		require.ErrorContains(t, err, "NOPERM")
		assert.Equal(t, "p1", admin.Get(t.Context(), "inv:naive").Val(), "the position passed")
		assert.Equal(t, "old", admin.Get(t.Context(), "closed:1").Val(), "and the entry is stale for ever")
	})

	seen := newEvents()
	sink, err := redissink.New(redissink.Config{Redis: options, Namespace: "inv", Source: "s", MaxParked: 1, Observer: seen})
	require.NoError(t, err)
	defer sink.Close()
	_, err = sink.Positions(t.Context())
	require.NoError(t, err)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"open:1", "closed:1", "inv:position:s"}, Position: "p1"}))
	assert.Empty(t, storedPosition(t, admin, "s"), "one pipeline later")
	parked, err := sink.Parked(t.Context())
	require.NoError(t, err)
	require.Len(t, parked, 1, "what can never be deleted is remembered, and passed")
	assert.Equal(t, "closed:1", parked[0].Key)
	assert.Equal(t, int64(1), admin.Exists(t.Context(), "inv:position:s").Val(), "the daemon's own keys stay")
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Equal(t, "p1", storedPosition(t, admin, "s"))

	done := make(chan error, 1)
	go func() {
		done <- sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"open:1", "closed:2"}, Position: "p2"})
	}()
	seen.await(t, invalidation.Waiting, 3)
	assert.Equal(t, "p1", storedPosition(t, admin, "s"), "too many are parked")
	select {
	case err := <-done:
		t.Fatalf("Apply returned %v with a delete refused and not parked", err)
	default:
	}
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "relay", "~closed:*").Err())
	require.NoError(t, received(t, done))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Equal(t, "p2", storedPosition(t, admin, "s"))
	assert.Positive(t, seen.count(invalidation.Working))

	runSink(t, sink)
	require.NoError(t, admin.MSet(t.Context(), "secret:1", "x").Err())
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "relay", "%R~secret:*").Err())
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Patterns: []string{"secret:*"}}))
	seen.await(t, invalidation.Waiting, seen.count(invalidation.Waiting))
	assert.Equal(t, 0, seen.count(invalidation.PurgeDone), "what a purge could not delete does not fit either")

	deleted, err := sink.Unpark(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, deleted)
	assert.Zero(t, admin.Exists(t.Context(), "open:1", "closed:1").Val())
	parked, err = sink.Parked(t.Context())
	require.NoError(t, err)
	assert.False(t, slices.ContainsFunc(parked, func(p redissink.Parked) bool { return p.Key == "closed:1" }), "it is forgotten")
}

// Anomaly 49: chunk 1 of a transaction goes to the old master, chunk 2 and the
// position to the new one, which never saw chunk 1.
func TestChunksAcrossAFailoverAreReplayed(t *testing.T) {
	t.Parallel()
	old := servers.NewRedis(t)
	oldClient := old.Client(t)
	require.NoError(t, oldClient.MSet(t.Context(), "k:1", "stale", "k:2", "stale").Err())
	vip := newForwarder(t, old.Addr())
	seen := newEvents()
	sink := newSink(t, vip.addr(), "s", seen)
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p0"}))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	require.Equal(t, "p0", storedPosition(t, oldClient, "s"))

	promoted := laggingReplica(t, oldClient)
	newClient := promoted.Client(t)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k:1"}}), "chunk 1, on the old master")
	vip.moveTo(promoted.Addr())

	t.Run("naive: compare the position only", func(t *testing.T) {
		// Chunk 1 carried no position, so both masters hold p0.
		assert.Equal(t, "p0", storedPosition(t, oldClient, "s"))
		assert.Equal(t, "p0", storedPosition(t, newClient, "s"))
		assert.Equal(t, int64(1), newClient.Exists(t.Context(), "k:1").Val(), "a position after chunk 2 would leave it stale")
	})

	err = sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k:2"}, Position: "p1"})
	require.ErrorIs(t, err, invalidation.ErrResume, "the nonce tells that the cache went back")
	positions, err := sink.Positions(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"p0"}, positions)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k:1", "k:2"}, Position: "p1"}), "the replay")
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Equal(t, "p1", storedPosition(t, newClient, "s"))
	assert.Zero(t, newClient.Exists(t.Context(), "k:1", "k:2").Val())
}

// Anomaly 34, the sink's half: Redis is away, loading, read-only.
func TestApplyWaitsForARedisThatIsAway(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t)
	seen := newEvents()
	sink := newSink(t, server.Addr(), "s", seen)
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	rdb := server.Client(t)

	require.NoError(t, rdb.Do(t.Context(), "CONFIG", "SET", "min-replicas-to-write", "1").Err())
	done := make(chan error, 1)
	go func() { done <- sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}, Position: "p1"}) }()
	seen.await(t, invalidation.Waiting, 1)
	require.NoError(t, rdb.Do(t.Context(), "CONFIG", "SET", "min-replicas-to-write", "0").Err())
	require.NoError(t, received(t, done), "NOREPLICAS passed")

	server.Kill(t)
	go func() { done <- sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}, Position: "p2"}) }()
	seen.await(t, invalidation.Waiting, seen.count(invalidation.Waiting))
	server.Start(t)
	require.ErrorIs(t, received(t, done), invalidation.ErrResume, "it came back without its memory")

	ctx, cancel := context.WithCancel(t.Context())
	server.Pause(t)
	go func() { done <- sink.Apply(ctx, invalidation.Batch{}) }()
	cancel()
	require.Error(t, received(t, done), "ctx ends the wait")
	server.Unpause(t)
}

// Anomaly 55: an eviction of the position is no reason to purge.
func TestEvictedPositionIsWrittenAgain(t *testing.T) {
	t.Parallel()
	server := servers.Redis(t)
	rdb, source := server.Client(t), servers.Prefix(t)
	sink := newSink(t, server.Addr(), source, nil)
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))

	require.NoError(t, rdb.Del(t.Context(), redissink.PositionKey("inv", source)).Err())
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Equal(t, "p1", storedPosition(t, rdb, source))
}

// Another process that writes the position, or an old dump that brings back an
// old one, makes the source resume.
func TestForeignPositionMakesTheSourceResume(t *testing.T) {
	t.Parallel()
	server := servers.Redis(t)
	source := servers.Prefix(t)
	one, two := newIdleSink(t, server.Addr(), source, nil), newIdleSink(t, server.Addr(), source, nil)
	for _, sink := range []*redissink.Sink{one, two} { // the second leads once the first one's lease has ended
		_, err := sink.Positions(t.Context())
		require.NoError(t, err)
	}
	require.NoError(t, two.Apply(t.Context(), invalidation.Batch{}))
	require.ErrorIs(t, one.Apply(t.Context(), invalidation.Batch{Position: "p0"}), invalidation.ErrResume)
	_, err := one.Positions(t.Context())
	require.NoError(t, err)
	require.NoError(t, one.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	require.ErrorIs(t, two.Apply(t.Context(), invalidation.Batch{Position: "p1"}), invalidation.ErrResume)
}

func TestPurgeDeletesWhatMatchesAndNothingElse(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t)
	rdb := server.Client(t)
	pipe := rdb.Pipeline()
	for i := range 5000 {
		pipe.Set(t.Context(), "user:"+strconv.Itoa(i), "v", 0)
		pipe.Set(t.Context(), "other:"+strconv.Itoa(i), "v", 0)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	seen := newEvents()
	sink := newSink(t, server.Addr(), "s", seen)
	_, err = sink.Positions(t.Context())
	require.NoError(t, err)

	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Patterns: []string{"user:*", "inv:*"}, Position: "p1"}))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"other:1"}, Position: "p2"}), "beside the purge")
	assert.Empty(t, storedPosition(t, rdb, "s"), "the position waits for the purge")
	seen.await(t, invalidation.PurgeDone, 1)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Empty(t, rdb.Keys(t.Context(), "user:*").Val())
	assert.Len(t, rdb.Keys(t.Context(), "other:*").Val(), 4999)
	require.Eventually(t, func() bool { return storedPosition(t, rdb, "s") == "p2" }, 10*time.Second, time.Millisecond,
		"it is stored behind the event, and the daemon's own keys stay")
	assert.Equal(t, 2, seen.count(invalidation.PurgeStarted))
}

// The application deletes a key behind the last compare-and-set, so that a purge does not see it any more, and a replica is promoted
// that lacks that delete: the position has not passed the purge there.
func TestPositionDoesNotPassAPurgeThatThePromotedOneNeverSaw(t *testing.T) {
	t.Parallel()
	old := servers.NewRedis(t)
	master := old.Client(t)
	require.NoError(t, master.Set(t.Context(), "k:1", "stale", 0).Err())
	address := newForwarder(t, old.Addr())
	var promoted *servers.RedisServer
	seen := newEvents()
	sink := newSink(t, address.addr(), "s", invalidation.ObserverFunc(func(e invalidation.Event) {
		switch {
		case e.Kind == invalidation.PurgeStarted && promoted == nil:
			promoted = laggingReplica(t, master)
			_ = master.Unlink(t.Context(), "k:1").Err() // seen below: the purge does not delete it
		case e.Kind == invalidation.PurgeDone:
			address.moveTo(promoted.Addr())
		}
		seen.Observe(e)
	}))
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Patterns: []string{"k:*"}, Position: "p1"}))
	seen.await(t, invalidation.PurgeDone, 0)
	require.ErrorIs(t, sink.Apply(t.Context(), invalidation.Batch{}), invalidation.ErrResume)
	assert.NotEqual(t, "p1", storedPosition(t, promoted.Client(t), "s"))
	assert.Equal(t, int64(1), promoted.Client(t).Exists(t.Context(), "k:1").Val(), "what it would have passed")
}

// A full Redis that evicts nothing must not stop deletes.
func TestFullRedisStillDeletes(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, "--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
	rdb := server.Client(t)
	full := false
	for i := 0; !full && i < 10_000; i++ {
		full = rdb.Set(t.Context(), "k:"+strconv.Itoa(i), strings.Repeat("x", 10_000), 0).Err() != nil
	}
	require.True(t, full)
	sink := newSink(t, server.Addr(), "s", nil)
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}), "nothing is freed, and the position is stored all the same")
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k:1"}}))
	assert.Equal(t, "p1", storedPosition(t, rdb, "s"))
}

func TestWrongRedisPasswordIsFatal(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t)
	require.NoError(t, server.Client(t).ConfigSet(t.Context(), "requirepass", "right").Err())
	sink, err := redissink.New(redissink.Config{
		Redis: &redis.UniversalOptions{Addrs: []string{server.Addr()}, Password: "s3cr3t-wrong"}, Namespace: "inv", Source: "s",
	})
	require.NoError(t, err)
	defer sink.Close()
	_, err = sink.Positions(t.Context())
	require.ErrorIs(t, err, invalidation.ErrFatal)
	assert.NotContains(t, err.Error(), "s3cr3t-wrong")
	assert.NotContains(t, err.Error(), "\n")
}
