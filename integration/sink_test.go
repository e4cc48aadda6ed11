package integration

import (
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// events collects what a Sink or Source reports.
type events struct {
	mu   sync.Mutex
	list []invalidation.Event
	more chan struct{}
}

func newEvents() *events { return &events{more: make(chan struct{}, 1)} }

func (e *events) Observe(event invalidation.Event) {
	e.mu.Lock()
	e.list = append(e.list, event)
	e.mu.Unlock()
	select {
	case e.more <- struct{}{}:
	default:
	}
}

func (e *events) count(kind invalidation.Kind) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, event := range e.list {
		if event.Kind == kind {
			n++
		}
	}
	return n
}

// await waits until an event of the kind has been reported more than n times.
func (e *events) await(t *testing.T, kind invalidation.Kind, n int) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for e.count(kind) <= n {
		select {
		case <-e.more:
		case <-deadline.C:
			t.Fatalf("no event %d within 30 s; got %+v", kind, e.list)
		}
	}
}

func newSink(t *testing.T, addr, source string, observer invalidation.Observer) *redissink.Sink {
	t.Helper()
	sink, err := redissink.New(redissink.Config{
		Redis: &redis.Options{Addr: addr}, Namespace: "inv", Source: source, Observer: observer,
	})
	require.NoError(t, err)
	t.Cleanup(func() { sink.Close() })
	return sink
}

// storedPosition returns the position part of what the sink stored.
func storedPosition(t *testing.T, rdb *redis.Client, source string) string {
	t.Helper()
	value, err := rdb.Get(t.Context(), redissink.PositionKey("inv", source)).Result()
	if err != nil {
		return ""
	}
	parts := strings.SplitN(value, " ", 3)
	require.Len(t, parts, 3)
	return parts[2]
}

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
	options := &redis.Options{Addr: server.Addr(), Username: "relay", Password: "pw"}

	t.Run("naive: position at the end of the pipeline", func(t *testing.T) {
		naive := redis.NewClient(options)
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
	sink, err := redissink.New(redissink.Config{Redis: options, Namespace: "inv", Source: "s", Observer: seen})
	require.NoError(t, err)
	defer sink.Close()
	_, err = sink.Positions(t.Context())
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		done <- sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"open:1", "closed:1"}, Position: "p1"})
	}()
	seen.await(t, invalidation.Waiting, 3)
	assert.Empty(t, storedPosition(t, admin, "s"))
	select {
	case err := <-done:
		t.Fatalf("Apply returned %v with a delete refused", err)
	default:
	}

	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "relay", "~closed:*").Err())
	require.NoError(t, <-done)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Equal(t, "p1", storedPosition(t, admin, "s"))
	assert.Zero(t, admin.Exists(t.Context(), "open:1", "closed:1").Val())
	assert.Positive(t, seen.count(invalidation.Working))
}

// forwarder is a TCP address whose target can change, as a virtual IP's does.
type forwarder struct {
	listener net.Listener
	mu       sync.Mutex
	target   string
	conns    []net.Conn
}

func newForwarder(t *testing.T, target string) *forwarder {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &forwarder{listener: listener, target: target}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { f.forward(in) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		f.moveTo("")
		all.Wait()
	})
	return f
}

func (f *forwarder) addr() string { return f.listener.Addr().String() }

func (f *forwarder) forward(in net.Conn) {
	defer in.Close()
	f.mu.Lock()
	target := f.target
	f.mu.Unlock()
	if target == "" {
		return
	}
	out, err := (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp", target)
	if err != nil {
		return
	}
	defer out.Close()
	f.mu.Lock()
	if f.target != target {
		f.mu.Unlock()
		return
	}
	f.conns = append(f.conns, in, out)
	f.mu.Unlock()
	var copies sync.WaitGroup
	copies.Go(func() { _, _ = io.Copy(out, in); out.Close(); in.Close() })
	copies.Go(func() { _, _ = io.Copy(in, out); out.Close(); in.Close() })
	copies.Wait()
}

// moveTo breaks every connection and sends the next ones to target.
func (f *forwarder) moveTo(target string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = target
	for _, conn := range f.conns {
		conn.Close()
	}
	f.conns = nil
}

// laggingReplica returns a server that holds what the master holds now and
// misses what comes after: a replica that is promoted later.
func laggingReplica(t *testing.T, master *redis.Client) *servers.RedisServer {
	t.Helper()
	replica := servers.NewRedis(t)
	client := replica.Client(t)
	for _, key := range master.Keys(t.Context(), "*").Val() {
		require.NoError(t, client.Set(t.Context(), key, master.Get(t.Context(), key).Val(), 0).Err())
	}
	return replica
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
	require.NoError(t, <-done, "NOREPLICAS passed")

	server.Kill(t)
	go func() { done <- sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}, Position: "p2"}) }()
	seen.await(t, invalidation.Waiting, seen.count(invalidation.Waiting))
	server.Start(t)
	require.ErrorIs(t, <-done, invalidation.ErrResume, "it came back without its memory")

	ctx, cancel := context.WithCancel(t.Context())
	server.Pause(t)
	go func() { done <- sink.Apply(ctx, invalidation.Batch{}) }()
	cancel()
	require.Error(t, <-done, "ctx ends the wait")
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
	one, two := newSink(t, server.Addr(), source, nil), newSink(t, server.Addr(), source, nil)
	for _, sink := range []*redissink.Sink{one, two} {
		_, err := sink.Positions(t.Context())
		require.NoError(t, err)
	}
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
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Empty(t, rdb.Keys(t.Context(), "user:*").Val())
	assert.Len(t, rdb.Keys(t.Context(), "other:*").Val(), 5000)
	assert.Equal(t, "p1", storedPosition(t, rdb, "s"), "the daemon's own keys stay")
	assert.Equal(t, 2, seen.count(invalidation.PurgeStarted))
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
		Redis: &redis.Options{Addr: server.Addr(), Password: "s3cr3t-wrong"}, Namespace: "inv", Source: "s",
	})
	require.NoError(t, err)
	defer sink.Close()
	_, err = sink.Positions(t.Context())
	require.ErrorIs(t, err, invalidation.ErrFatal)
	assert.NotContains(t, err.Error(), "s3cr3t-wrong")
	assert.NotContains(t, err.Error(), "\n")
}
