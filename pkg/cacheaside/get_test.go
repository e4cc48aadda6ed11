package cacheaside

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAMissLoadsAndFillsAndTheNextReadIsAHit(t *testing.T) {
	t.Parallel()
	w := setup(t)
	assert.Equal(t, "old", w.get(t, w.a))
	assert.Equal(t, "old", w.get(t, w.b))
	assert.Equal(t, 1, w.db.loaded())
	assert.Equal(t, []EventKind{EventFilled}, w.a.events.kinds())
	assert.Equal(t, []EventKind{EventHit}, w.b.events.kinds())
	assert.Equal(t, time.Hour, w.redis.TTL(key))
}

func TestASecondCopyOfAFillIsNotRejected(t *testing.T) {
	t.Parallel()
	w := setup(t)
	l := newLease()
	require.NoError(t, w.redis.Set(key, string(l[:])))
	entry := w.a.entry(t, "old")
	for range 2 { // as when the client sends it again because the first reply was lost
		assert.True(t, w.a.fillWith(t, l, entry))
	}
	require.NoError(t, w.b.Delete(t.Context(), key))
	assert.False(t, w.a.fillWith(t, l, entry))
}

func TestAReaderWaitsForAnothersLoad(t *testing.T) {
	t.Parallel()
	w := setup(t)
	waiting := make(chan struct{})
	w.b.once(stepWait, func() { close(waiting) })
	var fromB string
	done := make(chan struct{})
	w.a.once(stepLoad, func() {
		go func() {
			defer close(done)
			fromB, _ = w.b.view.Get(context.WithoutCancel(t.Context()), key, w.db.load)
		}()
		<-waiting
	})
	assert.Equal(t, "old", w.get(t, w.a))
	<-done
	assert.Equal(t, "old", fromB)
	assert.Equal(t, 1, w.db.loaded())
	assert.Equal(t, []EventKind{EventWaited}, w.b.events.kinds())
}

func TestAReaderTakesTheLeaseThatAnotherReleased(t *testing.T) {
	t.Parallel()
	w := setup(t)
	waiting := make(chan struct{})
	w.b.once(stepWait, func() { close(waiting) })
	done := make(chan struct{})
	failure := errors.New("no connection to the database")
	_, err := w.a.view.Get(t.Context(), key, func(ctx context.Context) (string, error) {
		go func() {
			defer close(done)
			_, _ = w.b.view.Get(context.WithoutCancel(ctx), key, w.db.load)
		}()
		<-waiting
		return "", failure
	})
	require.Equal(t, failure, err)
	<-done
	assert.Equal(t, []EventKind{EventFilled}, w.b.events.kinds())
}

func TestALoadThatFailsReleasesTheLease(t *testing.T) {
	t.Parallel()
	failure := errors.New("no connection to the database")
	cases := map[string]struct {
		load  Loader[string]
		check func(t *testing.T, err error)
	}{
		"error": {
			func(context.Context) (string, error) { return "", failure },
			func(t *testing.T, err error) { t.Helper(); assert.Equal(t, failure, err) },
		},
		"not found": {
			func(context.Context) (string, error) { return "", ErrNotFound },
			func(t *testing.T, err error) { t.Helper(); assert.Equal(t, ErrNotFound, err) },
		},
		"panic": {
			func(context.Context) (string, error) { panic("boom") },
			func(t *testing.T, err error) {
				t.Helper()
				var p *PanicError
				require.ErrorAs(t, err, &p)
				assert.Equal(t, "boom", p.Value)
				require.ErrorContains(t, err, "the loader panicked: boom")
				assert.Contains(t, string(p.Stack), "get_test.go")
			},
		},
		"panic with an error": {
			func(context.Context) (string, error) { panic(failure) },
			func(t *testing.T, err error) { t.Helper(); assert.ErrorIs(t, err, failure) },
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			_, err := w.a.view.Get(t.Context(), key, c.load)
			c.check(t, err)
			if errors.Is(err, ErrNotFound) {
				assert.Equal(t, []EventKind{EventFilledAbsent}, w.a.events.kinds())
				return
			}
			assert.False(t, w.redis.Exists(key))
			assert.Equal(t, []EventKind{EventLoadFailed}, w.a.events.kinds())
		})
	}
	t.Run("the loader ends its goroutine", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = w.a.view.Get(t.Context(), key, func(context.Context) (string, error) { runtime.Goexit(); return "", nil })
		}()
		<-done
		assert.False(t, w.redis.Exists(key))
	})
}

func TestAValueThatCannotBeEncodedIsReturnedAndTheLeaseReleased(t *testing.T) {
	t.Parallel()
	w := setup(t)
	v, err := For[func()](w.a.Client, Policy{}).Get(t.Context(), key, func(context.Context) (func(), error) { return nothing, nil })
	require.NoError(t, err)
	assert.NotNil(t, v)
	assert.Equal(t, EventNotFilled, w.a.events.last().Kind)
	require.ErrorContains(t, w.a.events.last().Err, "encode: json: unsupported type")
	assert.False(t, w.redis.Exists(key))
}

func TestWhatCannotBeDecodedIsReplacedOnce(t *testing.T) {
	t.Parallel()
	set := func(v string) func(*testing.T, *miniredis.Miniredis) {
		return func(t *testing.T, m *miniredis.Miniredis) { t.Helper(); require.NoError(t, m.Set(key, v)) }
	}
	value := func(h header, payload string) func(*testing.T, *miniredis.Miniredis) {
		return set(string(appendValue(nil, h, []byte(payload))))
	}
	cases := map[string]struct {
		store func(*testing.T, *miniredis.Miniredis)
		why   error
	}{
		"text":           {set("old"), errFormat},
		"a long text":    {set(strings.Repeat("Vold", 100)), errFormat},
		"nothing":        {set(""), errFormat},
		"half a lease":   {set("L123"), errFormat},
		"half a value":   {set("V\x01234"), errFormat},
		"unknown format": {value(header{format: 99}, `"old"`), errFormat},
		"unknown flags":  {value(header{format: formatJSON, flags: 128}, `"old"`), errFormat},
		"not JSON":       {value(header{format: formatJSON}, `{`), nil},
		"another codec":  {value(header{format: formatRaw}, `"old"`), errFormat},
		"another type":   {value(header{format: formatJSON}, `{"a":1}`), nil},
		"a hash":         {func(_ *testing.T, m *miniredis.Miniredis) { m.HSet(key, "a", "1") }, errType},
		"a list":         {func(t *testing.T, m *miniredis.Miniredis) { t.Helper(); _, _ = m.Lpush(key, "a") }, errType},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			c.store(t, w.redis)
			w.db.commit()
			assert.Equal(t, "new", w.get(t, w.a))
			assert.Equal(t, "new", w.get(t, w.a))
			assert.Equal(t, 1, w.db.loaded())
			require.Equal(t, []EventKind{EventForeign, EventFilled, EventHit}, w.a.events.kinds())
			require.Error(t, w.a.events.events[0].Err)
			if c.why != nil {
				require.ErrorIs(t, w.a.events.events[0].Err, c.why)
			}
		})
	}
}

func TestAReplacementIsRefusedWhenTheEntryChangedMeanwhile(t *testing.T) {
	t.Parallel()
	cases := map[string]func(t *testing.T, w world){
		"a string": func(t *testing.T, w world) { t.Helper(); require.NoError(t, w.redis.Set(key, "foreign")) },
		"a hash":   func(_ *testing.T, w world) { w.redis.HSet(key, "a", "1") },
	}
	for name, store := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			store(t, w)
			w.a.once(stepReplace, func() {
				require.NoError(t, w.other.Del(t.Context(), key).Err())
				w.get(t, w.b)
			})
			assert.Equal(t, "old", w.get(t, w.a))
			assert.Equal(t, 1, w.db.loaded())
			assert.Equal(t, []EventKind{EventWaited}, w.a.events.kinds())
		})
	}
}

func TestReadsWorkWithoutRedis(t *testing.T) {
	t.Parallel()
	t.Run("it refuses connections", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		a := newProcess(t, w.redis.Addr(), Options{RedisTimeout: 100 * time.Millisecond}) // it tries again for that long
		w.redis.Close()
		assert.Equal(t, "old", w.get(t, a))
		assert.Equal(t, []EventKind{EventRedisError, EventNotFilled}, a.events.kinds())
	})
	t.Run("it answers with errors", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.redis.SetError("OOM command not allowed when used memory > 'maxmemory'")
		assert.Equal(t, "old", w.get(t, w.a))
		assert.Equal(t, []EventKind{EventRedisError, EventNotFilled}, w.a.events.kinds())
	})
	t.Run("it fails at the fill", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.a.hooks.before = func(_ context.Context, s step, _ string) {
			switch s {
			case stepFill:
				w.redis.SetError("OOM command not allowed when used memory > 'maxmemory'")
			case stepRelease:
				w.redis.SetError("")
			}
		}
		assert.Equal(t, "old", w.get(t, w.a))
		assert.Equal(t, []EventKind{EventRedisError, EventNotFilled}, w.a.events.kinds())
		assert.False(t, w.redis.Exists(key), "the lease was released")
	})
	t.Run("it hangs", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0") // connects, and never answers
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		hung := newProcess(t, l.Addr().String(), Options{RedisTimeout: 20 * time.Millisecond, DeleteTimeout: 20 * time.Millisecond})
		began := time.Now()
		assert.Equal(t, "old", w.get(t, hung))
		require.ErrorIs(t, hung.Delete(t.Context(), key), ErrOwed)
		assert.Less(t, time.Since(began), 3*time.Second, "which is how long go-redis itself waits")
	})
}

func TestAReadEndsWhenItsContextDoes(t *testing.T) {
	t.Parallel()
	t.Run("before it begins", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := w.a.view.Get(ctx, key, w.db.load)
		require.ErrorIs(t, err, context.Canceled)
		assert.Zero(t, w.db.loaded())
		assert.Empty(t, w.a.events.kinds(), "Redis is not to blame")
	})
	t.Run("while it waits", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		l := newLease()
		require.NoError(t, w.redis.Set(key, string(l[:])))
		ctx, cancel := context.WithCancel(t.Context())
		w.a.once(stepWait, cancel)
		_, err := w.a.view.Get(ctx, key, w.db.load)
		require.ErrorIs(t, err, context.Canceled)
		assert.Zero(t, w.db.loaded())
	})
}

func TestAnInvalidPolicyIsReportedByGet(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := For[string](w.a.Client, Policy{TTL: time.Microsecond}).Get(t.Context(), key, w.db.load)
	require.EqualError(t, err, "cacheaside: Policy.TTL is 1µs: set it to 1ms or more, or to 0 for the default of 10m0s")
}

func TestAHitAllocatesNothingForTheObserver(t *testing.T) { //nolint:paralleltest // AllocsPerRun refuses to run beside others
	var o Observer = ObserverFunc(func(Event) {})
	assert.Zero(t, testing.AllocsPerRun(100, func() { o.Observe(Event{Kind: EventHit, Key: key, Took: time.Second}) }))
}
