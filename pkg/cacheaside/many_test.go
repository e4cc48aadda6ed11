package cacheaside

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rows is a table of which a BatchLoader reads.
type rows struct {
	mu     sync.Mutex
	values map[string]string
	calls  [][]string
}

func newRows(keys ...string) *rows {
	r := &rows{values: map[string]string{}}
	for _, k := range keys {
		r.values[k] = "old " + k
	}
	return r
}

func (r *rows) load(_ context.Context, keys []string) (map[string]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, slices.Sorted(slices.Values(keys)))
	found := map[string]string{}
	for _, k := range keys {
		if v, ok := r.values[k]; ok {
			found[k] = v
		}
	}
	return found, nil
}

func (r *rows) set(key, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values[key] = value
}

func TestGetManyLoadsWhatIsMissingInOneCall(t *testing.T) {
	t.Parallel()
	w, r := setup(t), newRows("a", "b", "c")
	_, err := w.b.view.Get(t.Context(), "a", func(context.Context) (string, error) { return "cached a", nil })
	require.NoError(t, err)
	p := newProxy(t, w.redis.Addr(), func([]byte) bool { return false })
	c, err := New(connect(t, p.addr), Options{RedisTimeout: unhurried})
	require.NoError(t, err)
	for range 2 {
		got, err := For[string](c, Policy{}).GetMany(t.Context(), []string{"a", "b", "c", "b", "none"}, r.load)
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"a": "cached a", "b": "old b", "c": "old c"}, got)
	}
	assert.Equal(t, [][]string{{"b", "c", "none"}}, r.calls)
	p.mu.Lock()
	defer p.mu.Unlock()
	var trips []string
	for _, request := range p.requests {
		if s := string(request); !strings.Contains(s, "hello") && !strings.Contains(s, "client") {
			trips = append(trips, s)
		}
	}
	require.Len(t, trips, 4, "reads, leases, fills, reads")
	assert.Equal(t, 4, strings.Count(trips[0], "\r\nget\r\n"))
	assert.Equal(t, 3, strings.Count(trips[1], "\r\nnx\r\n"))
	assert.Equal(t, 3, strings.Count(trips[2], "\r\nevalsha\r\n"))
}

func TestGetManyOfNothing(t *testing.T) {
	t.Parallel()
	w, r := setup(t), newRows()
	got, err := w.a.view.GetMany(t.Context(), nil, r.load)
	require.NoError(t, err)
	assert.Empty(t, got)
	assert.Empty(t, r.calls)
	_, err = w.a.view.GetMany(t.Context(), []string{"a"}, nil)
	require.ErrorIs(t, err, errNoLoader)
}

func Test10ADeletedKeyOfABatchRejectsOnlyItsOwnFill(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, w world) map[string]string {
		t.Helper()
		r := newRows("a", "b")
		w.a.once(stepFill, func() {
			r.set("a", "new a")
			require.NoError(t, w.b.Delete(t.Context(), "a"))
		})
		_, err := w.a.view.GetMany(t.Context(), []string{"a", "b"}, r.load)
		require.NoError(t, err)
		got, err := w.b.view.GetMany(t.Context(), []string{"a", "b"}, r.load)
		require.NoError(t, err)
		assert.NotContains(t, r.calls[1:], []string{"b"}, "b was filled")
		return got
	}
	t.Run("without the compare it goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.a.fill = newScript(fillAlways)
		assert.Equal(t, "old a", run(t, w)["a"])
	})
	t.Run("its fill is rejected", func(t *testing.T) {
		t.Parallel()
		assert.Equal(t, map[string]string{"a": "new a", "b": "old b"}, run(t, setup(t)))
	})
}

func TestABatchAndASingleReadShareTheirLoads(t *testing.T) {
	t.Parallel()
	w, r := setup(t), newRows(key, "b", "c")
	var inner sync.WaitGroup
	_, err := w.a.view.Get(t.Context(), key, func(context.Context) (string, error) {
		inner.Go(func() {
			got, err := w.a.view.GetMany(context.WithoutCancel(t.Context()), []string{key, "b"}, r.load)
			check(t, err)
			assert.Equal(t, map[string]string{key: "single", "b": "old b"}, got)
		})
		require.Eventually(t, func() bool { return w.a.waiting() == 2 }, 10*time.Second, time.Millisecond)
		return "single", nil
	})
	require.NoError(t, err)
	inner.Wait()
	assert.Equal(t, [][]string{{"b"}}, r.calls)
}

func TestAFailedBatchReturnsWhatItHas(t *testing.T) {
	t.Parallel()
	w, failure := setup(t), errors.New("no connection to the database")
	w.get(t, w.a)
	got, err := w.a.view.GetMany(t.Context(), []string{key, "b"}, func(context.Context, []string) (map[string]string, error) {
		return nil, failure
	})
	require.Equal(t, failure, err)
	assert.Equal(t, map[string]string{key: "old"}, got)
	assert.False(t, w.redis.Exists("b"), "the lease was released")
}

func TestTheLeasesOfABatchGoOnTheWireOnce(t *testing.T) {
	t.Parallel()
	for name, cluster := range map[string]bool{"single": false, "cluster": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := setup(t), newRows("a", "b")
			p := cutOff(t, w.redis.Addr())
			var rdb redis.UniversalClient = connect(t, p.addr, func(o *redis.Options) { o.ReadTimeout = 300 * time.Millisecond })
			if cluster {
				rdb = clusterOf(t, p.addr, 300*time.Millisecond)
			}
			c, err := New(rdb, Options{RedisTimeout: 3 * time.Second})
			require.NoError(t, err)
			got, err := For[string](c, Policy{}).GetMany(t.Context(), []string{"a", "b"}, r.load)
			require.NoError(t, err)
			assert.Len(t, got, 2)
			all := p.everyLease()
			assert.GreaterOrEqual(t, len(all), 2)
			assert.Len(t, all, distinct(all))
		})
	}
}

func TestMissesWithinTheWindowAreOneLoad(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var keys []string
	for i := range 20 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	r := newRows(keys...)
	v := For[string](w.a.Client, Policy{MergeWindow: 50 * time.Millisecond}, LoadMany(r.load))
	var all sync.WaitGroup
	for _, k := range keys {
		for range 2 {
			all.Go(func() {
				got, err := v.Get(context.WithoutCancel(t.Context()), k, nil)
				check(t, err)
				assert.Equal(t, "old "+k, got)
			})
		}
	}
	all.Wait()
	require.Len(t, r.calls, 1)
	assert.Len(t, r.calls[0], 20)
	_, err := v.Get(t.Context(), "none", nil)
	require.ErrorIs(t, err, ErrNotFound)
}

func TestAMergedFillIsRejectedAfterADelete(t *testing.T) {
	t.Parallel()
	w, r := setup(t), newRows(key)
	v := For[string](w.a.Client, Policy{MergeWindow: time.Millisecond}, LoadMany(r.load))
	w.a.once(stepFill, func() {
		r.set(key, "new")
		require.NoError(t, w.b.Delete(t.Context(), key))
	})
	_, err := v.Get(t.Context(), key, nil)
	require.NoError(t, err)
	got, err := v.Get(t.Context(), key, nil)
	require.NoError(t, err)
	assert.Equal(t, "new", got)
}

func TestAnOverlappingBatchLoadsTheRest(t *testing.T) {
	t.Parallel()
	w, r := setup(t), newRows("a", "b", "c")
	var calls atomic.Int32
	var inner sync.WaitGroup
	inside := make(chan struct{})
	_, err := w.a.view.GetMany(t.Context(), []string{"a", "b"}, func(ctx context.Context, keys []string) (map[string]string, error) {
		calls.Add(1)
		inner.Go(func() {
			got, err := w.a.view.GetMany(context.WithoutCancel(ctx), []string{"b", "c"}, func(ctx context.Context, keys []string) (map[string]string, error) {
				close(inside)
				return r.load(ctx, keys)
			})
			check(t, err)
			assert.Equal(t, map[string]string{"b": "old b", "c": "old c"}, got)
		})
		<-inside
		return r.load(ctx, keys)
	})
	require.NoError(t, err)
	inner.Wait()
	assert.ElementsMatch(t, [][]string{{"c"}, {"a", "b"}}, r.calls)
}
