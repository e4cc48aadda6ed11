package delaydelete_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/delaydelete"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const delay = 5 * time.Second

// cache is the next Sink. It notes every call with its time and remembers the
// position, as a real one does.
type cache struct {
	begin time.Time

	mu       sync.Mutex
	calls    []string
	position string
	entries  map[string]string
	fail     error
}

func newCache() *cache { return &cache{begin: time.Now(), entries: map[string]string{}} }

func (c *cache) Positions(context.Context) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return []string{c.position}, nil
}

func (c *cache) Apply(_ context.Context, b invalidation.Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return c.fail
	}
	c.calls = append(c.calls, fmt.Sprintf("%v %v%v%q", time.Since(c.begin), b.Keys, b.Patterns, b.Position))
	for _, key := range b.Keys {
		delete(c.entries, key)
	}
	if b.Position != "" {
		c.position = b.Position
	}
	return nil
}

func (c *cache) fill(key, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[key] = value
}

func (c *cache) get(key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[key]
}

func (c *cache) seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	return calls
}

// start runs a Sink around the cache; stop ends it.
func start(t *testing.T, cfg delaydelete.Config) (s *delaydelete.Sink, stop func()) {
	t.Helper()
	if cfg.Delay == 0 {
		cfg.Delay = delay
	}
	s, err := delaydelete.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return s, func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	}
}

func batch(position string, keys ...string) invalidation.Batch {
	return invalidation.Batch{Keys: keys, Position: position}
}

// wait lets time pass until everything due by then has happened.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestDeletesAtOnceAndAgainAfterTheDelayWithThePosition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := newCache()
		s, stop := start(t, delaydelete.Config{Next: next})
		require.NoError(t, s.Apply(t.Context(), batch("P1", "a", "b")))
		assert.Equal(t, []string{`0s [a b][]""`}, next.seen())

		wait(delay - time.Nanosecond)
		assert.Empty(t, next.seen(), "nothing before the delay")
		wait(time.Nanosecond)
		assert.Equal(t, []string{`5s [a b][]"P1"`}, next.seen())
		stop()
	})
}

func TestKeepsTheOrderAndMergesWhatIsDueTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := newCache()
		s, stop := start(t, delaydelete.Config{Next: next})
		require.NoError(t, s.Apply(t.Context(), batch("P1", "a")))
		require.NoError(t, s.Apply(t.Context(), batch("", "b")))
		wait(time.Second)
		require.NoError(t, s.Apply(t.Context(), invalidation.Batch{Patterns: []string{"c:*"}, Position: "P2"}))
		next.seen()

		wait(delay)
		assert.Equal(t, []string{`5s [a b][]"P1"`, `6s [][c:*]"P2"`}, next.seen())
		stop()
	})
}

func TestKeepsItsOwnCopyOfABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := newCache()
		s, stop := start(t, delaydelete.Config{Next: next})
		reused := []string{"a"}
		require.NoError(t, s.Apply(t.Context(), invalidation.Batch{Keys: reused}))
		reused[0] = "z"
		next.seen()
		wait(delay)
		assert.Equal(t, []string{`5s [a][]""`}, next.seen())
		stop()
	})
}

func TestAHeartbeatPassesAtOnceAndItsPositionWaitsForWhatIsQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := newCache()
		s, stop := start(t, delaydelete.Config{Next: next})
		require.NoError(t, s.Apply(t.Context(), batch("P0")))
		assert.Equal(t, []string{`0s [][]"P0"`}, next.seen(), "nothing is queued: the position passes")

		require.NoError(t, s.Apply(t.Context(), batch("P1", "a")))
		next.seen()
		wait(time.Second)
		require.NoError(t, s.Apply(t.Context(), batch("P2")))
		require.NoError(t, s.Apply(t.Context(), batch("P3")))
		assert.Equal(t, []string{`1s [][]""`, `1s [][]""`}, next.seen())
		wait(delay)
		assert.Equal(t, []string{`5s [a][]"P3"`}, next.seen())

		require.NoError(t, s.Apply(t.Context(), batch("P4")))
		assert.Equal(t, []string{`6s [][]"P4"`}, next.seen())
		stop()
	})
}

func TestACrashBetweenTheDeletesReplaysBoth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := newCache()
		s, stop := start(t, delaydelete.Config{Next: next})
		require.NoError(t, s.Apply(t.Context(), batch("P1", "a")))
		wait(delay / 2)
		stop()
		next.seen()

		s, stop = start(t, delaydelete.Config{Next: next})
		from, err := s.Positions(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []string{""}, from, "the position did not pass the missing second delete")
		require.NoError(t, s.Apply(t.Context(), batch("P1", "a")))
		wait(delay)
		assert.Equal(t, []string{`2.5s [a][]""`, `7.5s [a][]"P1"`}, next.seen())
		stop()
	})
}

func TestAResumeDropsWhatIsQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := newCache()
		s, stop := start(t, delaydelete.Config{Next: next})
		require.NoError(t, s.Apply(t.Context(), batch("P1", "a")))
		_, err := s.Positions(t.Context())
		require.NoError(t, err)
		next.seen()
		wait(2 * delay)
		assert.Empty(t, next.seen())
		require.NoError(t, s.Apply(t.Context(), batch("P1")))
		assert.Equal(t, []string{`10s [][]"P1"`}, next.seen())
		stop()
	})
}

func TestApplyBlocksWhenTooMuchIsQueuedAndHeartbeatsGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := newCache()
		var noted []invalidation.Event
		s, stop := start(t, delaydelete.Config{
			Next: next, MaxPending: 2, Delay: 2500 * time.Millisecond,
			Observer: invalidation.ObserverFunc(func(e invalidation.Event) { noted = append(noted, e) }),
		})
		require.NoError(t, s.Apply(t.Context(), batch("P1", "a", "b")))
		next.seen()
		require.NoError(t, s.Apply(t.Context(), batch("P2", "c")))
		assert.Equal(t, 2500*time.Millisecond, time.Since(next.begin))
		synctest.Wait()
		assert.Equal(t, []string{`0s [c][]""`, `1s [][]""`, `2s [][]""`, `2.5s [a b][]"P1"`}, next.seen())
		assert.Len(t, noted, 1)
		stop()
	})
}

func TestABlockedApplyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, stop := start(t, delaydelete.Config{Next: newCache(), MaxPending: 1})
		require.NoError(t, s.Apply(t.Context(), batch("P1", "a")))
		ctx, cancel := context.WithTimeout(t.Context(), delay/2)
		defer cancel()
		require.ErrorIs(t, s.Apply(ctx, batch("P2", "b")), context.DeadlineExceeded)
		stop()
	})
}

func TestErrorsOfTheNextSinkAreReturned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := newCache()
		s, err := delaydelete.New(delaydelete.Config{Next: next, Delay: delay})
		require.NoError(t, err)
		require.NoError(t, s.Apply(t.Context(), batch("P1", "a")))
		next.fail = fmt.Errorf("gone: %w", invalidation.ErrResume)
		require.ErrorIs(t, s.Apply(t.Context(), batch("P2", "b")), invalidation.ErrResume, "the first delete, from Apply")
		require.ErrorIs(t, s.Run(t.Context()), invalidation.ErrResume, "the second, from Run")
		assert.Equal(t, delay, time.Since(next.begin))
	})
}

func TestNewNamesEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := delaydelete.New(delaydelete.Config{MaxPending: -1})
	require.ErrorContains(t, err, "Config.Next is nil")
	require.ErrorContains(t, err, "Config.Delay is 0s")
	require.ErrorContains(t, err, "Config.MaxPending is -1")
}

// A reader loads the old row from a lagging replica and fills after the first
// delete (anomaly 38). Without a second delete that stays until its TTL.
func TestASlowReaderIsCaughtByTheSecondDelete(t *testing.T) {
	t.Parallel()
	for _, second := range []bool{false, true} {
		t.Run(fmt.Sprintf("second=%v", second), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				next := newCache()
				next.fill("user:1", "old")
				var sink invalidation.Sink = next
				stop := func() {}
				if second {
					sink, stop = start(t, delaydelete.Config{Next: next})
				}
				require.NoError(t, sink.Apply(t.Context(), batch("P1", "user:1")))
				assert.Empty(t, next.get("user:1"))
				next.fill("user:1", "old") // the replica did not have the commit yet
				wait(delay)
				if second {
					assert.Empty(t, next.get("user:1"))
				} else {
					assert.Equal(t, "old", next.get("user:1"), "stale without a second delete")
				}
				stop()
			})
		})
	}
}

// What the next Sink is known to remember is all that may be pruned below.
type telling struct {
	invalidation.Sink

	stored []string
}

func (s telling) Stored() []string { return s.stored }

func TestStoredIsWhatTheNextSinkTells(t *testing.T) {
	t.Parallel()
	stored := func(next invalidation.Sink) []string {
		sink, err := delaydelete.New(delaydelete.Config{Next: next, Delay: time.Second})
		require.NoError(t, err)
		return sink.Stored()
	}
	assert.Equal(t, []string{"a", ""}, stored(telling{stored: []string{"a", ""}}))
	assert.Empty(t, stored(struct{ invalidation.Sink }{}))
}
