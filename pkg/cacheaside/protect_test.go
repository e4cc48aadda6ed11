package cacheaside

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLoadsAreLimitedAlsoWithoutRedis(t *testing.T) {
	t.Parallel()
	w := setup(t)
	p := newProcess(t, w.redis.Addr(), Options{MaxLoads: 3, MaxWait: 5 * time.Second, RedisTimeout: 250 * time.Millisecond})
	p.events.more = make(chan struct{}, 10_000)
	w.redis.Close()
	var running, most atomic.Int32
	three := make(chan struct{})
	var once sync.Once
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			_, err := p.view.Get(context.WithoutCancel(t.Context()), fmt.Sprint("k", i), func(context.Context) (string, error) {
				n := running.Add(1)
				defer running.Add(-1)
				for old := most.Load(); n > old; old = most.Load() {
					most.CompareAndSwap(old, n)
				}
				if n == 3 {
					once.Do(func() { close(three) })
				}
				select { // three come to be: they do not miss each other
				case <-three:
				case <-time.After(10 * time.Second):
				}
				time.Sleep(time.Millisecond)
				return "old", nil
			})
			check(t, err)
		})
	}
	all.Wait()
	assert.EqualValues(t, 3, most.Load())
}

func TestTooManyLoadsAreRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	p := newProcess(t, w.redis.Addr(), Options{MaxLoads: 1, MaxWait: 10 * time.Millisecond})
	_, err := p.view.Get(t.Context(), key, func(ctx context.Context) (string, error) {
		_, err := p.view.Get(ctx, "other", w.db.load)
		return "", err
	})
	require.ErrorIs(t, err, ErrTooManyLoads)
}

func TestARedisThatFailsIsLeftAloneForAWhile(t *testing.T) {
	t.Parallel()
	w := setup(t)
	p := newProcess(t, w.redis.Addr(), Options{BreakAfter: 2, BreakFor: 2 * time.Second, RedisTimeout: 100 * time.Millisecond})
	addr := w.redis.Addr()
	w.redis.Close()
	for range 2 {
		w.get(t, p)
	}
	require.ErrorIs(t, p.events.await(t, EventOpened).Err, ErrRedisOpen)
	began := time.Now()
	w.get(t, p)
	assert.Less(t, time.Since(began), time.Second, "it waits for nobody")
	require.ErrorIs(t, p.events.last().Err, ErrRedisOpen)
	require.NoError(t, w.redis.StartAddr(addr))
	require.Eventually(t, func() bool { w.get(t, p); return p.events.last().Kind == EventHit }, 20*time.Second, 5*time.Millisecond)
	p.events.await(t, EventClosed)
}

func TestALoaderThatFailsIsLeftAloneForAWhile(t *testing.T) {
	t.Parallel()
	w := setup(t)
	down := errors.New("no connection to the database")
	v := For[string](w.a.Client, Policy{TTL: time.Minute, StaleIfError: time.Hour, BreakAfter: 2, BreakFor: 2 * time.Second})
	w.read(t, v)
	w.age(t, 2*time.Minute)
	for range 2 {
		_, err := v.Get(t.Context(), "other", func(context.Context) (string, error) { return "", down })
		require.ErrorIs(t, err, down)
	}
	began := time.Now()
	_, err := v.Get(t.Context(), "other", w.db.load)
	require.ErrorIs(t, err, ErrLoaderOpen)
	assert.Equal(t, "old", w.read(t, v), "a stale copy, if there is one")
	assert.Less(t, time.Since(began), time.Second)
	require.Eventually(t, func() bool { got, err := v.Get(t.Context(), "other", w.db.load); return err == nil && got == "old" },
		20*time.Second, 5*time.Millisecond)
	for range 10 {
		_, err := v.Get(t.Context(), "absent", func(context.Context) (string, error) { return "", ErrNotFound })
		require.ErrorIs(t, err, ErrNotFound, "absence is no failure")
		require.NoError(t, w.a.Delete(t.Context(), "absent"))
	}
}
