package integration

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// memoryLog is a log whose reader does what every Source does: it begins at the oldest position that the Sink returns, applies what
// follows, calls Apply now and then, and begins again when it is told to.
type memoryLog struct {
	sink *redissink.Sink
	seen *events

	mu      sync.Mutex
	entries []invalidation.Batch // entry i has the position i+1
	changed chan struct{}        // closed, and made anew, at every change below and of entries
	applied int
	begun   [][]string  // what Positions returned each time
	resumed []time.Time // when Apply returned ErrResume
	reasons []string
}

// newMemoryLog runs a Sink and the log's reader until the test ends.
func newMemoryLog(t *testing.T, options *redis.UniversalOptions) *memoryLog {
	t.Helper()
	l := &memoryLog{seen: newEvents(), changed: make(chan struct{})}
	sink, err := redissink.New(redissink.Config{Redis: options, Namespace: "inv", Source: "s", Observer: logTo(t, l.seen)})
	require.NoError(t, err)
	l.sink = sink
	ctx, cancel := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	parts.Go(func() { assert.ErrorIs(t, sink.Run(ctx), context.Canceled) })
	parts.Go(func() { assert.ErrorIs(t, l.run(ctx), context.Canceled) })
	t.Cleanup(func() {
		cancel()
		parts.Wait()
		sink.Close()
	})
	l.await(t, "the first positions", func() bool { return len(l.begun) > 0 })
	return l
}

// logTo makes the events part of a failed test's output, beside what next does with them.
func logTo(t *testing.T, next invalidation.Observer) invalidation.Observer {
	t.Helper()
	began := time.Now()
	return invalidation.ObserverFunc(func(e invalidation.Event) {
		next.Observe(e)
		if e.Kind != invalidation.Deleted && t.Context().Err() == nil {
			t.Logf("%6.2fs event %d of %s: %s %v", time.Since(began).Seconds(), e.Kind, e.Part, e.Text, e.Err)
		}
	})
}

func (l *memoryLog) run(ctx context.Context) error {
	for {
		positions, err := l.sink.Positions(ctx)
		if err != nil {
			return err
		}
		l.change(func() { l.begun, l.applied = append(l.begun, positions), oldest(positions) })
		err = l.follow(ctx)
		if !errors.Is(err, invalidation.ErrResume) {
			return err
		}
		l.change(func() { l.resumed, l.reasons = append(l.resumed, time.Now()), append(l.reasons, err.Error()) })
	}
}

func (l *memoryLog) follow(ctx context.Context) error {
	heartbeat := time.NewTicker(400 * time.Millisecond)
	defer heartbeat.Stop()
	for {
		l.mu.Lock()
		next, changed := l.applied, l.changed
		var batch invalidation.Batch
		more := next < len(l.entries)
		if more {
			batch = l.entries[next]
		}
		l.mu.Unlock()
		if !more {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
				continue
			case <-heartbeat.C:
			}
		}
		if err := l.sink.Apply(ctx, batch); err != nil {
			return err
		}
		if more {
			l.change(func() { l.applied = next + 1 })
		}
	}
}

func oldest(positions []string) int {
	first := -1
	for _, position := range positions {
		n, _ := strconv.Atoi(position) // "": from the beginning
		if first < 0 || n < first {
			first = n
		}
	}
	return max(first, 0)
}

// write adds an entry and waits until its deletes were answered.
func (l *memoryLog) write(t *testing.T, keys ...string) {
	t.Helper()
	l.add(keys...)
	l.await(t, "the deletes", func() bool { return l.applied == len(l.entries) })
}

// add adds an entry.
func (l *memoryLog) add(keys ...string) {
	l.change(func() {
		l.entries = append(l.entries, invalidation.Batch{Keys: keys, Position: strconv.Itoa(len(l.entries) + 1)})
	})
}

// stored waits until every master remembers the newest position.
func (l *memoryLog) stored(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		l.mu.Lock()
		want := strconv.Itoa(len(l.entries))
		l.mu.Unlock()
		for _, position := range l.sink.Stored() {
			if position != want {
				return false
			}
		}
		return true
	}, 30*time.Second, 10*time.Millisecond)
}

// resumes waits until Apply has returned ErrResume for the first time and Positions has returned after it. It returns when Apply did, and
// what Positions returned.
func (l *memoryLog) resumes(t *testing.T) (time.Time, []string) {
	t.Helper()
	l.await(t, "beginning again", func() bool { return len(l.begun) > 1 })
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resumed[0], l.begun[1]
}

// count returns how often Apply has returned ErrResume, and why.
func (l *memoryLog) count() (int, []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.resumed), l.reasons
}

// neverLost fails the test if a position was missing: that is a purge of everything.
func (l *memoryLog) neverLost(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, positions := range l.begun[1:] {
		assert.NotContains(t, positions, "", "a position was lost")
	}
}

// purge adds an entry that deletes by a pattern.
func (l *memoryLog) purge(pattern string) {
	l.change(func() {
		l.entries = append(l.entries, invalidation.Batch{Patterns: []string{pattern}, Position: strconv.Itoa(len(l.entries) + 1)})
	})
}

func (l *memoryLog) change(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *memoryLog) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(45 * time.Second)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		done, changed := ok(), l.changed
		l.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("%s did not come about within 45 s", what)
		}
	}
}

// fill sets each key to a value that the next entry of the log makes stale.
func fill(t *testing.T, rdb redis.Cmdable, keys ...string) {
	t.Helper()
	for _, key := range keys {
		require.Eventually(t, func() bool { return rdb.Set(t.Context(), key, "stale", 0).Err() == nil }, 30*time.Second, 20*time.Millisecond)
	}
}

// present returns those of the keys that exist.
func present(t *testing.T, rdb redis.Cmdable, keys ...string) []string {
	t.Helper()
	var found []string
	for _, key := range keys {
		n, err := rdb.Exists(t.Context(), key).Result()
		require.NoError(t, err)
		if n > 0 {
			found = append(found, key)
		}
	}
	return found
}

// gone waits until none of the keys exists.
func gone(t *testing.T, rdb redis.Cmdable, keys ...string) {
	t.Helper()
	assert.Eventually(t, func() bool {
		for _, key := range keys {
			if n, err := rdb.Exists(t.Context(), key).Result(); err != nil || n > 0 {
				return false
			}
		}
		return true
	}, 30*time.Second, 10*time.Millisecond, "stale entries are left")
}

// naive is how a cache's position is kept without this project's care.
type naive struct {
	rdb  *redis.Client
	last string // what was written last
}

// compareAndSet stores a position if the one before is still there, and reports whether it was.
func (n *naive) compareAndSet(t *testing.T, position string) bool {
	t.Helper()
	reply, err := n.rdb.Eval(t.Context(), `
		if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
		redis.call('SET', KEYS[1], ARGV[2])
		return 1`, []string{"naive:cas"}, n.last, position).Int()
	require.NoError(t, err)
	n.last = position
	return reply == 1
}
