package cacheaside

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// joined starts a Get in p that joins the flight under way, and returns when it has.
func (w world) joined(t *testing.T, p process) (result func() string) {
	t.Helper()
	before := p.waiting()
	ctx, done := context.WithoutCancel(t.Context()), make(chan string, 1)
	go func() {
		v, err := p.view.Get(ctx, key, w.db.load)
		if err != nil {
			v = err.Error()
		}
		done <- v
	}()
	require.Eventually(t, func() bool { return p.waiting() > before }, 10*time.Second, 100*time.Microsecond)
	return func() string { return <-done }
}

// waiting is how many reads of p wait for the key.
func (p process) waiting() int {
	p.flights.mu.Lock()
	defer p.flights.mu.Unlock()
	if f := p.flights.byKey[key]; f != nil {
		return len(f.waiters)
	}
	return 0
}

// singleflight is how loads are mostly shared: whoever comes gets what the first one loads.
func singleflight(load func() string) (begin func() (result func() string)) {
	var once sync.Once
	var value string
	done := make(chan struct{})
	return func() func() string {
		go once.Do(func() { value = load(); close(done) })
		return func() string { <-done; return value }
	}
}

func Test11AReadThatBeganAfterADeleteDoesNotGetAnOlderLoad(t *testing.T) {
	t.Parallel()
	t.Run("naive goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		loaded, goOn := make(chan struct{}), make(chan struct{})
		begin := singleflight(func() string {
			v, _ := w.db.load(t.Context())
			close(loaded)
			<-goOn
			return v
		})
		begin()
		<-loaded
		w.write(t)
		joiner := begin()
		close(goOn)
		assert.Equal(t, "old", joiner())
	})
	for who, other := range map[string]bool{"this process deletes": false, "another process deletes": true} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			deleter := w.a
			if other {
				deleter = w.b
			}
			var late func() string
			w.a.once(stepFill, func() {
				w.db.commit()
				require.NoError(t, deleter.Delete(t.Context(), key))
				assert.Equal(t, other, w.a.waiting() == 1, "a delete detaches the flights of its process")
				late = w.joined(t, w.a)
			})
			assert.Equal(t, "old", w.get(t, w.a), "this read began before the write")
			assert.Equal(t, "new", late())
			assert.Equal(t, 2, w.db.loaded())
		})
	}
}

func Test47AJoinerOfAFillWhoseReplyIsUnderWayRetries(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, rule func(f *flight)) string {
		t.Helper()
		w := setup(t)
		p := newProxy(t, w.redis.Addr(), func([]byte) bool { return false })
		a := newProcess(t, p.addr, Options{})
		filled, goOn := make(chan struct{}), make(chan struct{})
		a.hooks.after = func(s step, _ string) {
			if s == stepFill {
				a.hooks.after = nil
				close(filled)
				<-goOn
			}
		}
		early := make(chan string, 1)
		ctx := context.WithoutCancel(t.Context())
		go func() {
			v, _ := a.view.Get(ctx, key, w.db.load)
			early <- v
		}()
		<-filled // the reply has not been seen by anybody yet
		w.write(t)
		late := w.joined(t, a)
		a.flights.mu.Lock()
		rule(a.flights.byKey[key])
		a.flights.mu.Unlock()
		close(goOn)
		assert.Equal(t, "old", <-early)
		return late()
	}
	t.Run("if any joiner may have it, it goes stale", func(t *testing.T) {
		t.Parallel()
		assert.Equal(t, "old", run(t, func(f *flight) {
			for _, w := range f.waiters {
				w.n = 0
			}
		}))
	})
	t.Run("it loads again", func(t *testing.T) {
		t.Parallel()
		assert.Equal(t, "new", run(t, func(*flight) {}))
	})
}

func Test15WritesFasterThanLoads(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var version atomic.Int64
	view := For[int64](w.a.Client, Policy{})
	load := func(loads *atomic.Int64) Loader[int64] {
		return func(ctx context.Context) (int64, error) {
			v := version.Load()
			loads.Add(1)
			version.Add(1)
			return v, w.b.Delete(ctx, key) // every load is overtaken
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				var loads atomic.Int64
				floor, began := version.Load(), time.Now()
				v, err := view.Get(context.WithoutCancel(t.Context()), key, load(&loads))
				check(t, err)
				assert.GreaterOrEqual(t, v, floor, "loaded after the read began")
				assert.LessOrEqual(t, loads.Load(), int64(2))
				assert.Less(t, time.Since(began), defaultLease)
			}
		})
	}
	all.Wait()
}

func TestAThousandMissesInFourProcessesAreOneLoad(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var all sync.WaitGroup
	begin, loading := make(chan struct{}), make(chan struct{})
	var loads atomic.Int64
	load := func(ctx context.Context) (string, error) { loads.Add(1); <-loading; return "old", ctx.Err() }
	for range 4 {
		p := newProcess(t, w.redis.Addr(), Options{MaxWait: 5 * time.Second, RedisTimeout: 5 * time.Second})
		for range 250 {
			all.Go(func() {
				<-begin
				v, err := p.view.Get(context.WithoutCancel(t.Context()), key, load)
				check(t, err)
				assert.Equal(t, "old", v)
			})
		}
	}
	close(begin)
	require.Eventually(t, func() bool { return loads.Load() > 0 }, 5*time.Second, time.Millisecond)
	close(loading)
	all.Wait()
	assert.EqualValues(t, 1, loads.Load())
}

func TestALoadGoesOnWhenItsCallerIsGone(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	goOn := make(chan struct{})
	_, err := w.a.view.Get(ctx, key, func(ctx context.Context) (string, error) {
		cancel()
		<-goOn
		return "old", ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)
	close(goOn)
	w.a.events.await(t, EventFilled)
	assert.Equal(t, "old", w.get(t, w.b))
	assert.Zero(t, w.db.loaded())
}

func TestLoadTimeoutEndsALoad(t *testing.T) {
	t.Parallel()
	w := setup(t)
	v := For[string](w.a.Client, Policy{LoadTimeout: 10 * time.Millisecond})
	_, err := v.Get(t.Context(), key, func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() })
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.False(t, w.redis.Exists(key))
}

func TestEachJoinerKeepsItsOwnContextAndError(t *testing.T) {
	t.Parallel()
	failure := errors.New("no connection to the database")
	cases := map[string]struct {
		err   error
		joins string // what the joiner gets
	}{
		"a failure is shared":                          {failure, failure.Error()},
		"what ended the other's own context is not":    {context.Canceled, "old"},
		"nor is a deadline":                            {fmt.Errorf("select: %w", context.DeadlineExceeded), "old"},
		"absence is data, and the joiner came in time": {ErrNotFound, ErrNotFound.Error()},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			var joiner func() string
			_, err := w.a.view.Get(t.Context(), key, func(context.Context) (string, error) {
				joiner = w.joined(t, w.a)
				return "", c.err
			})
			assert.Equal(t, c.err, err)
			assert.Equal(t, c.joins, joiner())
		})
	}
	t.Run("a panic is for all who take the result", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		var joiner func() string
		_, err := w.a.view.Get(t.Context(), key, func(context.Context) (string, error) {
			joiner = w.joined(t, w.a)
			panic("boom")
		})
		require.ErrorContains(t, err, "the loader panicked: boom")
		assert.Contains(t, joiner(), "the loader panicked: boom")
	})
	t.Run("a joiner leaves with its own context", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		v, err := w.a.view.Get(t.Context(), key, func(context.Context) (string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			_, err := w.a.view.Get(ctx, key, w.db.load)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			return "mine", nil
		})
		require.NoError(t, err)
		assert.Equal(t, "mine", v)
	})
}

func TestALeaseIsRenewedForALongLoad(t *testing.T) {
	t.Parallel()
	w := setup(t)
	p := newProcess(t, w.redis.Addr(), Options{Lease: 30 * time.Millisecond})
	renewed := make(chan struct{}, 100)
	p.hooks.after = func(s step, _ string) {
		if s == stepRenew {
			renewed <- struct{}{}
		}
	}
	v, err := p.view.Get(t.Context(), key, func(context.Context) (string, error) {
		for range 3 { // together they are longer than the lease
			for len(renewed) > 0 {
				<-renewed
			}
			w.redis.FastForward(20 * time.Millisecond)
			for range 3 { // one may have been told of late, one under way
				<-renewed
			}
		}
		return "old", nil
	})
	require.NoError(t, err)
	assert.Equal(t, "old", v)
	assert.Equal(t, []EventKind{EventFilled}, p.events.kinds())
}

func Test12AnInsertRemovesAbsence(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, w world, after func()) error {
		t.Helper()
		var inserted atomic.Bool
		load := func(context.Context) (string, error) {
			if !inserted.Load() {
				return "", fmt.Errorf("select: %w", ErrNotFound)
			}
			return "new", nil
		}
		w.a.once(stepFill, func() { inserted.Store(true); after() })
		_, err := w.a.view.Get(t.Context(), key, load)
		require.ErrorIs(t, err, ErrNotFound)
		_, err = w.b.view.Get(t.Context(), key, load)
		return err
	}
	t.Run("without a delete absence goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		require.ErrorIs(t, run(t, w, nothing), ErrNotFound)
		assert.Equal(t, []EventKind{EventHitAbsent}, w.b.events.kinds())
		assert.LessOrEqual(t, w.redis.TTL(key), defaultNegativeTTL)
	})
	t.Run("the fill is rejected", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		require.NoError(t, run(t, w, func() { require.NoError(t, w.b.Delete(t.Context(), key)) }))
	})
}

func TestAbsenceIsNotStoredIfThePolicySaysSo(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := For[string](w.a.Client, Policy{NegativeTTL: -1}).Get(t.Context(), key, func(context.Context) (string, error) { return "", ErrNotFound })
	require.ErrorIs(t, err, ErrNotFound)
	assert.False(t, w.redis.Exists(key))
}

func TestViewsOfOneKeyThatCannotReadEachOthersValuesDoNotShareThem(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	p := newProcess(t, m.Addr(), Options{})
	numbers := For[int](p.Client, Policy{})
	got := make(chan int, 1)
	_, err := p.view.Get(t.Context(), key, func(context.Context) (string, error) {
		go func() {
			n, _ := numbers.Get(context.WithoutCancel(t.Context()), key, func(context.Context) (int, error) { return 7, nil })
			got <- n
		}()
		require.Eventually(t, func() bool { return p.waiting() == 2 }, 10*time.Second, time.Millisecond)
		return "text", nil
	})
	require.NoError(t, err)
	assert.Equal(t, 7, <-got)
}
