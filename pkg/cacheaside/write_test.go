package cacheaside

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWriteDeletesWhatItsFunctionReturns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var keys []string
	for i := range 3*deleteChunk + 1 {
		keys = append(keys, fmt.Sprint("user:", i))
		require.NoError(t, w.redis.Set(keys[i], "v"))
	}
	require.NoError(t, w.redis.Set("other", "v"))
	require.NoError(t, w.a.Write(t.Context(), func(context.Context) ([]string, error) { return keys, nil }))
	assert.Equal(t, []string{"other"}, w.redis.Keys())
	require.NoError(t, w.a.Write(t.Context(), func(context.Context) ([]string, error) { return nil, nil }))
	require.NoError(t, w.a.Delete(t.Context()))
}

func TestWriteDeletesAlthoughTheCallerWentAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	require.NoError(t, w.redis.Set(key, "v"))
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, w.a.Write(ctx, func(context.Context) ([]string, error) { cancel(); return []string{key}, nil }))
	assert.False(t, w.redis.Exists(key))
}

func TestAPanicOfTheWriteGoesOn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	assert.PanicsWithValue(t, "boom", func() {
		_ = w.a.Write(t.Context(), func(context.Context) ([]string, error) { panic("boom") })
	})
}

func TestAFailedDeleteIsOwedAndDoneInTheBackground(t *testing.T) {
	t.Parallel()
	failure := errors.New("commit: connection reset by peer")
	cases := map[string]struct {
		returnOwed bool
		fails      error
		want       []error
	}{
		"the error is the write's own":      {false, nil, nil},
		"the write failed too":              {false, failure, []error{failure}},
		"for strict callers":                {true, nil, []error{ErrOwed}},
		"for strict callers, both of them ": {true, failure, []error{failure, ErrOwed}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			p := newProcess(t, w.redis.Addr(), Options{ReturnOwed: c.returnOwed})
			require.NoError(t, w.redis.Set(key, "v"))
			w.redis.SetError("LOADING Redis is loading the dataset in memory")
			err := p.Write(t.Context(), func(context.Context) ([]string, error) { return []string{key}, c.fails })
			if c.want == nil {
				require.NoError(t, err)
			}
			for _, want := range c.want {
				require.ErrorIs(t, err, want)
			}
			owed := p.events.await(t, EventOwed)
			assert.Equal(t, key, owed.Key)
			require.ErrorContains(t, owed.Err, "LOADING")
			w.redis.SetError("")
			p.events.await(t, EventOwedDone)
			assert.False(t, w.redis.Exists(key))
		})
	}
}

func TestCloseDropsWhatIsOwed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.redis.SetError("LOADING")
	require.ErrorIs(t, w.a.Delete(t.Context(), key), ErrOwed)
	w.a.Close()
	require.ErrorIs(t, w.a.events.await(t, EventOwedDropped).Err, errOwedClosed)
	require.ErrorIs(t, w.a.Delete(t.Context(), "later"), ErrOwed)
	assert.Equal(t, "later", w.a.events.last().Key)
	require.ErrorIs(t, w.a.events.last().Err, errOwedClosed)
	w.a.Close()
}

// downstream is a Redis that can be down, for owedDeletes alone.
type downstream struct {
	mu    sync.Mutex
	down  bool
	tries []time.Duration
	began time.Time
	seen  func(keys []string)
}

func (d *downstream) set(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

func (d *downstream) unlink(_ context.Context, keys []string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tries = append(d.tries, time.Since(d.began))
	if d.seen != nil {
		d.seen(keys)
	}
	if d.down {
		return keys, errors.New("down")
	}
	return nil, nil
}

func newOwed(d *downstream, limit int) (*owedDeletes, *recorder) {
	r := newRecorder()
	d.began = time.Now()
	return &owedDeletes{unlink: d.unlink, observer: r, limit: limit, keep: time.Minute, timeout: time.Second, keys: map[string]owedKey{}}, r
}

func TestOwedDeletesAreGivenUpAfterTheirTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &downstream{down: true}
		o, r := newOwed(d, 10)
		o.add(t.Context(), []string{"a"}, errors.New("down"))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		assert.Equal(t, []EventKind{EventOwed, EventOwedDropped}, r.kinds())
		require.ErrorIs(t, r.last().Err, errOwedTooLong)
		assert.Greater(t, len(d.tries), 10)
		assert.Less(t, len(d.tries), 100)
		assert.LessOrEqual(t, d.tries[len(d.tries)-1], time.Minute+2*longestRetry)
		assert.Nil(t, o.stop, "nothing is owed, so nothing runs")
		o.close()
	})
}

func TestOwedDeletesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &downstream{down: true}
		o, r := newOwed(d, 2)
		o.add(t.Context(), []string{"a", "b", "c"}, errors.New("down"))
		assert.Equal(t, []EventKind{EventOwed, EventOwed, EventOwedDropped}, r.kinds())
		assert.Equal(t, "c", r.last().Key)
		require.ErrorIs(t, r.last().Err, errOwedTooMany)
		o.add(t.Context(), []string{"a"}, errors.New("down"))
		assert.Equal(t, EventOwed, r.last().Kind, "it is there already")
		d.set(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, EventOwedDone, r.last().Kind)
		assert.Len(t, r.kinds(), 6)
		o.close()
	})
}

func TestARetryThatWasSentBeforeALaterWriteDoesNotSettleIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &downstream{}
		o, r := newOwed(d, 2)
		var late sync.Once
		d.seen = func([]string) {
			late.Do(func() { o.add(t.Context(), []string{"a"}, errors.New("down")) })
		}
		o.add(t.Context(), []string{"a"}, errors.New("down"))
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Len(t, d.tries, 2)
		assert.Equal(t, []EventKind{EventOwed, EventOwed, EventOwedDone, EventOwedDone}, r.kinds())
		o.close()
	})
}
