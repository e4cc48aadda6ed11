package cacheaside

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// age makes the stored value older, as reads judge it, without touching its time to live.
func (w world) age(t *testing.T, by time.Duration) {
	t.Helper()
	raw, err := w.redis.Get(key)
	require.NoError(t, err)
	kind, h, payload := parse([]byte(raw))
	require.Equal(t, kindValue, kind)
	h.loadedAt = h.loadedAt.Add(-by)
	if !h.softExpiry.IsZero() {
		h.softExpiry = h.softExpiry.Add(-by)
	}
	ttl := w.redis.TTL(key)
	require.NoError(t, w.redis.Set(key, string(appendValue(nil, h, payload))))
	w.redis.SetTTL(key, ttl)
}

func (w world) views(p Policy) (a, b *View[string]) {
	return For[string](w.a.Client, p), For[string](w.b.Client, p)
}

func (w world) read(t *testing.T, v *View[string]) string {
	t.Helper()
	got, err := v.Get(t.Context(), key, w.db.load)
	require.NoError(t, err)
	return got
}

func TestAfterTheSoftTTLOneReaderRefreshesAndAllAreServed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a, b := w.views(Policy{TTL: time.Hour, SoftTTL: time.Minute})
	w.read(t, a)
	w.age(t, 2*time.Minute)
	w.redis.FastForward(10 * time.Minute)
	ttl := w.redis.TTL(key)
	w.db.commit()
	loading, goOn := make(chan struct{}), make(chan struct{})
	var loads atomic.Int32
	slow := func(ctx context.Context) (string, error) {
		loads.Add(1)
		close(loading)
		<-goOn
		return w.db.load(ctx)
	}
	got, err := a.Get(t.Context(), key, slow)
	require.NoError(t, err)
	assert.Equal(t, "old", got, "nobody deleted it")
	<-loading
	assert.Equal(t, ttl, w.redis.TTL(key), "a claim does not touch the time to live")
	for range 10 {
		got, err = b.Get(t.Context(), key, slow)
		require.NoError(t, err)
		assert.Equal(t, "old", got)
	}
	close(goOn)
	w.a.events.await(t, EventRefreshed)
	assert.Equal(t, "new", w.read(t, b))
	assert.EqualValues(t, 1, loads.Load())
	assert.Greater(t, w.redis.TTL(key), ttl)
	assert.Contains(t, w.a.events.kinds(), EventStale)
}

func Test9ARefreshDoesNotOverwriteANewerValue(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, fill string) string {
		t.Helper()
		w := setup(t)
		a, b := w.views(Policy{TTL: time.Hour, SoftTTL: time.Minute})
		w.read(t, a)
		w.age(t, 2*time.Minute)
		landed := make(chan struct{})
		w.a.hooks.before = func(_ context.Context, s step, _ string) {
			if s == stepLoad {
				w.a.fill = newScript(fill) // the claim is done
			}
			if s == stepFill {
				w.write(t)
				assert.Equal(t, "new", w.read(t, b), "nothing stale after the delete")
			}
		}
		w.a.hooks.after = func(s step, _ string) {
			if s == stepFill {
				close(landed)
			}
		}
		assert.Equal(t, "old", w.read(t, a))
		<-landed
		w.a.flights.wait()
		return w.read(t, b)
	}
	t.Run("without the compare it goes stale", func(t *testing.T) {
		t.Parallel()
		assert.Equal(t, "old", run(t, fillAlways))
	})
	t.Run("the fill is rejected", func(t *testing.T) {
		t.Parallel()
		assert.Equal(t, "new", run(t, fillSource))
	})
}

func TestARefreshThatFailsGivesItsClaimBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a, b := w.views(Policy{TTL: time.Hour, SoftTTL: time.Minute})
	w.read(t, a)
	w.age(t, 2*time.Minute)
	got, err := a.Get(t.Context(), key, func(context.Context) (string, error) { return "", errors.New("down") })
	require.NoError(t, err)
	assert.Equal(t, "old", got)
	w.a.flights.wait()
	w.db.commit()
	assert.Equal(t, "old", w.read(t, b), "not at once")
	assert.Zero(t, w.db.loaded()-1)
	w.age(t, 2*retryRefresh)
	assert.Equal(t, "old", w.read(t, b))
	w.b.events.await(t, EventRefreshed)
	assert.Equal(t, "new", w.read(t, a))
}

func TestARefreshThatFindsNothingRemovesTheValue(t *testing.T) {
	t.Parallel()
	for name, negative := range map[string]time.Duration{"stored": 0, "not stored": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			a, _ := w.views(Policy{SoftTTL: time.Minute, NegativeTTL: negative})
			gone := func(context.Context) (string, error) { return "", ErrNotFound }
			w.read(t, a)
			w.age(t, 2*time.Minute)
			_, err := a.Get(t.Context(), key, gone)
			require.NoError(t, err)
			w.a.flights.wait()
			_, err = a.Get(t.Context(), key, gone)
			require.ErrorIs(t, err, ErrNotFound)
		})
	}
}

func TestEntriesWithoutTTLExpireSoftlyOnly(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a, b := w.views(Policy{NoTTL: true, SoftTTL: time.Minute})
	w.read(t, a)
	w.redis.FastForward(1000 * time.Hour)
	w.age(t, 1000*time.Hour)
	w.db.commit()
	assert.Equal(t, "old", w.read(t, b))
	w.b.flights.wait()
	assert.Equal(t, "new", w.read(t, a))
	assert.Zero(t, w.redis.TTL(key))
	require.NoError(t, w.a.Delete(t.Context(), key))
	w.db.value = "newer"
	assert.Equal(t, "newer", w.read(t, b), "nothing stale after a delete")
}

func TestXFetchRefreshesBeforeTheExpiry(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a, _ := w.views(Policy{TTL: time.Hour, XFetch: 1000})
	_, err := a.Get(t.Context(), key, func(context.Context) (string, error) { return "old", nil })
	require.NoError(t, err)
	raw, err := w.redis.Get(key)
	require.NoError(t, err)
	_, h, payload := parse([]byte(raw))
	assert.WithinDuration(t, h.loadedAt.Add(time.Hour), h.softExpiry, time.Millisecond)
	h.loadCost = time.Second
	require.NoError(t, w.redis.Set(key, string(appendValue(nil, h, payload))))
	w.db.commit()
	require.Eventually(t, func() bool { return w.read(t, a) == "new" }, 10*time.Second, time.Millisecond,
		"it takes 16 minutes on average, so one in forty reads refreshes")

	p, err := newPolicy(Policy{TTL: time.Hour}, nil)
	require.NoError(t, err)
	assert.Equal(t, verdictFresh, p.judge(h, time.Now().Add(time.Hour)), "without XFetch the field is ignored")
}

func TestStaleIfError(t *testing.T) {
	t.Parallel()
	down := errors.New("no connection to the database")
	fails := func(context.Context) (string, error) { return "", down }
	policy := Policy{TTL: time.Minute, StaleIfError: time.Hour}
	t.Run("a failed load returns the old value, again and again", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		a, b := w.views(policy)
		w.read(t, a)
		assert.Equal(t, time.Minute+time.Hour, w.redis.TTL(key))
		w.age(t, 2*time.Minute)
		for _, v := range []*View[string]{a, b, a} {
			got, err := v.Get(t.Context(), key, fails)
			require.NoError(t, err)
			assert.Equal(t, "old", got)
		}
		require.Equal(t, EventStaleIfError, w.a.events.last().Kind)
		require.ErrorIs(t, w.a.events.last().Err, down)
	})
	t.Run("one that succeeds does not", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		a, b := w.views(policy)
		w.read(t, a)
		w.age(t, 2*time.Minute)
		w.db.commit()
		assert.Equal(t, "new", w.read(t, b))
		assert.Equal(t, "new", w.read(t, a))
		assert.Equal(t, 2, w.db.loaded())
	})
	t.Run("nothing is old enough to be served too old", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		a, _ := w.views(policy)
		w.read(t, a)
		w.age(t, 2*time.Hour)
		_, err := a.Get(t.Context(), key, fails)
		require.ErrorIs(t, err, down)
	})
	t.Run("after a delete there is nothing old", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		a, _ := w.views(policy)
		w.read(t, a)
		w.age(t, 2*time.Minute)
		require.NoError(t, w.b.Delete(t.Context(), key))
		_, err := a.Get(t.Context(), key, fails)
		require.ErrorIs(t, err, down)
	})
	t.Run("another that loads is waited for", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		a, b := w.views(policy)
		w.read(t, a)
		w.age(t, 2*time.Minute)
		waiting, got := make(chan struct{}), make(chan string, 1)
		w.b.once(stepWait, func() { close(waiting) })
		_, err := a.Get(t.Context(), key, func(ctx context.Context) (string, error) {
			go func() {
				v, _ := b.Get(context.WithoutCancel(ctx), key, w.db.load)
				got <- v
			}()
			<-waiting
			return "newest", nil
		})
		require.NoError(t, err)
		assert.Equal(t, "newest", <-got)
	})
	t.Run("the fill of a claimed value is rejected after a delete", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		a, b := w.views(policy)
		w.read(t, a)
		w.age(t, 2*time.Minute)
		w.a.once(stepFill, func() { w.write(t) })
		w.read(t, a)
		assert.Equal(t, "new", w.read(t, b))
	})
}

func TestJitterOnlyShortens(t *testing.T) {
	t.Parallel()
	p, err := newPolicy(Policy{TTL: time.Hour, Jitter: 0.5}, nil)
	require.NoError(t, err)
	seen := map[time.Duration]bool{}
	for range 100 {
		d := p.lifetime(false)
		seen[d] = true
		assert.GreaterOrEqual(t, d, 30*time.Minute)
		assert.LessOrEqual(t, d, time.Hour)
	}
	assert.Greater(t, len(seen), 50)
}

func TestAnInvalidPolicySaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cases := map[string]struct {
		policy Policy
		want   string
	}{
		"short":         {Policy{LoadTimeout: 1}, "Policy.LoadTimeout is 1ns: set it to 1ms or more, or to 0 for the default of 10s"},
		"soft":          {Policy{SoftTTL: time.Hour}, "Policy.SoftTTL is 1h0m0s, not shorter than TTL, 10m0s: an entry that old is gone; set SoftTTL to less than TTL"},
		"no TTL":        {Policy{NoTTL: true}, "Policy.NoTTL is set without SoftTTL: nothing would ever be loaded again; set SoftTTL"},
		"both TTLs":     {Policy{NoTTL: true, TTL: 1e9, SoftTTL: 1e9}, "Policy.NoTTL and Policy.TTL are set: an entry can't both expire and not; set one of them"},
		"jitter":        {Policy{Jitter: 2}, "Policy.Jitter is 2: set it to a share from 0 to 0.5"},
		"XFetch":        {Policy{XFetch: -1}, "Policy.XFetch is -1: set it to 0 for none, or to a factor of up to 1000, such as 1"},
		"break":         {Policy{BreakAfter: -1}, "Policy.BreakAfter is -1: set it to 1 or more, or to 0 for never"},
		"merge":         {Policy{MergeWindow: 1e9}, "Policy.MergeWindow is set without a loader of many keys: give For the option LoadMany, or set MergeWindow to 0"},
		"NoTTL, XFetch": {Policy{NoTTL: true, SoftTTL: 1e9, XFetch: 1}, "Policy.NoTTL and Policy.XFetch are set: there is no miss to be earlier than; set one of them"},
		"NoTTL, stale":  {Policy{NoTTL: true, SoftTTL: 1e9, StaleIfError: 1e9}, "Policy.NoTTL and Policy.StaleIfError are set: old values are served anyway; set one of them"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := For[string](w.a.Client, c.policy).Get(t.Context(), key, w.db.load)
			require.EqualError(t, err, "cacheaside: "+c.want)
		})
	}
}
