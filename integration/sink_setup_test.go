package integration

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
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

// last returns the newest event of a kind.
func (e *events) last(kind invalidation.Kind) invalidation.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range slices.Backward(e.list) {
		if event.Kind == kind {
			return event
		}
	}
	return invalidation.Event{}
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

// received is <-c, for no longer than a test waits for anything.
func received[T any](t *testing.T, c <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-c:
	case <-time.After(outboxPatience):
		t.Fatalf("nothing came within %v", outboxPatience)
	}
	return value
}

// newSink returns a sink that runs until the test ends.
func newSink(t *testing.T, addr, source string, observer invalidation.Observer) *redissink.Sink {
	t.Helper()
	sink := newIdleSink(t, addr, source, observer)
	runSink(t, sink)
	return sink
}

// newIdleSink returns one that keeps no lease and makes no purges.
func newIdleSink(t *testing.T, addr, source string, observer invalidation.Observer) *redissink.Sink {
	t.Helper()
	sink, err := redissink.New(redissink.Config{
		Redis: &redis.UniversalOptions{Addrs: []string{addr}}, Namespace: "inv", Source: source, Observer: observer,
	})
	require.NoError(t, err)
	t.Cleanup(func() { sink.Close() })
	return sink
}

// runSink runs a sink until the test ends.
func runSink(t *testing.T, sink *redissink.Sink) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- sink.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Sink.Run: %v", err)
		}
	})
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
