package integration

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/cacheaside"
)

// cacheWorld is two processes that use one server, with a prefix of their own there.
type cacheWorld struct {
	rdb    *redis.Client
	key    string
	a, b   *cacheaside.Client
	events *cacheEvents // of a
}

// cacheEvents remembers what a Client told.
type cacheEvents struct {
	mu    sync.Mutex
	kinds []cacheaside.EventKind
	more  chan struct{}
}

func (e *cacheEvents) Observe(event cacheaside.Event) {
	e.mu.Lock()
	e.kinds = append(e.kinds, event.Kind)
	e.mu.Unlock()
	e.more <- struct{}{}
}

func (e *cacheEvents) all() []cacheaside.EventKind {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]cacheaside.EventKind{}, e.kinds...)
}

// await returns once the last event is of kind k.
func (e *cacheEvents) await(t *testing.T, k cacheaside.EventKind) {
	t.Helper()
	for {
		if all := e.all(); len(all) > 0 && all[len(all)-1] == k {
			return
		}
		select {
		case <-e.more:
		case <-time.After(10 * time.Second):
			require.Fail(t, "no such event", "%v in %v", k, e.all())
		}
	}
}

func newCacheWorld(t *testing.T, server *servers.RedisServer) cacheWorld {
	t.Helper()
	w := cacheWorld{rdb: server.Client(t), key: servers.Prefix(t) + "k", events: &cacheEvents{more: make(chan struct{}, 1000)}}
	var err error
	w.a, err = cacheaside.New(server.Client(t), cacheaside.Options{Observer: w.events})
	require.NoError(t, err)
	t.Cleanup(w.a.Close)
	w.b, err = cacheaside.New(server.Client(t), cacheaside.Options{})
	require.NoError(t, err)
	t.Cleanup(w.b.Close)
	return w
}

// TestCacheAsideOnRealServers does what the unit tests do on a Redis in memory.
func TestCacheAsideOnRealServers(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]*servers.RedisServer{
		"redis 7": servers.Redis7(t), "redis 8": servers.Redis(t), "valkey": servers.Valkey(t),
	} {
		for what, run := range map[string]func(t *testing.T, w cacheWorld){
			"a miss fills and then it is a hit":          cacheHit,
			"a batch":                                    cacheBatch,
			"absence":                                    cacheAbsence,
			"a delete during the load":                   cacheDeletedDuringTheLoad,
			"a plain DEL during the load":                cacheDELDuringTheLoad,
			"one of two processes refreshes":             cacheRefresh,
			"a delete during the refresh":                cacheDeletedDuringTheRefresh,
			"another process waits for the load":         cacheWaits,
			"a lease is renewed and released":            cacheRenewal,
			"a list and foreign bytes are replaced once": cacheForeign,
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				run(t, newCacheWorld(t, server))
			})
		}
	}
}

// returns is a loader.
func returns(value string) cacheaside.Loader[string] {
	return func(context.Context) (string, error) { return value, nil }
}

func cacheGet(t *testing.T, v *cacheaside.View[string], key string, load cacheaside.Loader[string]) string {
	t.Helper()
	got, err := v.Get(t.Context(), key, load)
	require.NoError(t, err)
	return got
}

// hourly are views of both processes whose entries live for an hour.
func (w cacheWorld) hourly() (a, b *cacheaside.View[string]) {
	return w.views(cacheaside.Policy{TTL: time.Hour})
}

func (w cacheWorld) views(p cacheaside.Policy) (a, b *cacheaside.View[string]) {
	return cacheaside.For[string](w.a, p), cacheaside.For[string](w.b, p)
}

func cacheHit(t *testing.T, w cacheWorld) {
	t.Helper()
	a, b := w.hourly()
	assert.Equal(t, "1", cacheGet(t, a, w.key, returns("1")))
	assert.Equal(t, "1", cacheGet(t, b, w.key, returns("2")))
	ttl := w.rdb.PTTL(t.Context(), w.key).Val()
	assert.LessOrEqual(t, ttl, time.Hour)
	assert.Greater(t, ttl, 59*time.Minute)
	require.NoError(t, w.b.Delete(t.Context(), w.key))
	assert.Equal(t, "2", cacheGet(t, a, w.key, returns("2")))
}

func cacheBatch(t *testing.T, w cacheWorld) {
	t.Helper()
	a, b := w.hourly()
	keys := []string{w.key + "1", w.key + "2", w.key + "3"}
	cacheGet(t, b, keys[0], returns("old"))
	load := func(value string) cacheaside.BatchLoader[string] {
		return func(ctx context.Context, _ []string) (map[string]string, error) {
			return map[string]string{keys[1]: value, keys[2]: value}, w.b.Delete(ctx, keys[1])
		}
	}
	got, err := a.GetMany(t.Context(), keys, load("new"))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{keys[0]: "old", keys[1]: "new", keys[2]: "new"}, got)
	got, err = b.GetMany(t.Context(), keys, load("newer"))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{keys[0]: "old", keys[1]: "newer", keys[2]: "new"}, got, "the second one was deleted during the first batch")
}

func cacheAbsence(t *testing.T, w cacheWorld) {
	t.Helper()
	a, b := w.hourly()
	_, err := a.Get(t.Context(), w.key, func(context.Context) (string, error) { return "", cacheaside.ErrNotFound })
	require.ErrorIs(t, err, cacheaside.ErrNotFound)
	_, err = b.Get(t.Context(), w.key, returns("not asked for"))
	require.ErrorIs(t, err, cacheaside.ErrNotFound)
	assert.LessOrEqual(t, w.rdb.PTTL(t.Context(), w.key).Val(), 10*time.Second)
	require.NoError(t, w.b.Delete(t.Context(), w.key))
	assert.Equal(t, "inserted", cacheGet(t, a, w.key, returns("inserted")))
}

func cacheDeletedDuringTheLoad(t *testing.T, w cacheWorld) {
	t.Helper()
	w.deletedDuringTheLoad(t, func(ctx context.Context) error { return w.b.Delete(ctx, w.key) })
}

func cacheDELDuringTheLoad(t *testing.T, w cacheWorld) {
	t.Helper()
	w.deletedDuringTheLoad(t, func(ctx context.Context) error { return w.rdb.Del(ctx, w.key).Err() })
}

func (w cacheWorld) deletedDuringTheLoad(t *testing.T, del func(context.Context) error) {
	t.Helper()
	a, b := w.hourly()
	old := cacheGet(t, a, w.key, func(ctx context.Context) (string, error) { return "old", del(ctx) })
	assert.Equal(t, "old", old, "this read began before the delete")
	assert.Equal(t, []cacheaside.EventKind{cacheaside.EventRejected}, w.events.all())
	assert.Equal(t, "new", cacheGet(t, b, w.key, returns("new")))
}

// softly are views whose entries are old after a millisecond. A claim lasts for longer than any test.
func (w cacheWorld) softly() (a, b *cacheaside.View[string]) {
	return w.views(cacheaside.Policy{TTL: time.Hour, SoftTTL: time.Millisecond, LoadTimeout: time.Minute})
}

func (w cacheWorld) old(t *testing.T, v *cacheaside.View[string]) {
	t.Helper()
	cacheGet(t, v, w.key, returns("old"))
	require.NoError(t, w.rdb.PExpire(t.Context(), w.key, 30*time.Minute).Err())
	time.Sleep(2 * time.Millisecond) // its age is what this is about
}

func cacheRefresh(t *testing.T, w cacheWorld) {
	t.Helper()
	a, b := w.softly()
	w.old(t, b)
	loading, goOn := make(chan struct{}), make(chan struct{})
	got := cacheGet(t, a, w.key, func(context.Context) (string, error) { close(loading); <-goOn; return "new", nil })
	assert.Equal(t, "old", got)
	<-loading
	assert.LessOrEqual(t, w.rdb.PTTL(t.Context(), w.key).Val(), 30*time.Minute, "the claim leaves the time to live as it is")
	for range 10 {
		assert.Equal(t, "old", cacheGet(t, b, w.key, returns("claimed twice")))
	}
	close(goOn)
	w.events.await(t, cacheaside.EventRefreshed)
	fresh, _ := w.hourly()
	assert.Equal(t, "new", cacheGet(t, fresh, w.key, returns("newer")))
	assert.Greater(t, w.rdb.PTTL(t.Context(), w.key).Val(), 59*time.Minute)
}

func cacheDeletedDuringTheRefresh(t *testing.T, w cacheWorld) {
	t.Helper()
	a, b := w.softly()
	w.old(t, b)
	got := cacheGet(t, a, w.key, func(ctx context.Context) (string, error) { return "old", w.b.Delete(ctx, w.key) })
	assert.Equal(t, "old", got)
	w.events.await(t, cacheaside.EventRejected)
	assert.Zero(t, w.rdb.Exists(t.Context(), w.key).Val())
}

func cacheWaits(t *testing.T, w cacheWorld) {
	t.Helper()
	_, b := w.hourly()
	options := *w.rdb.Options()
	options.ContextTimeoutEnabled = true // or the Client would use a copy, which has no hooks
	rdb := redis.NewClient(&options)
	t.Cleanup(func() { assert.NoError(t, rdb.Close()) })
	looks := answered{w.key, make(chan struct{}, 1000)}
	rdb.AddHook(looks)
	waiting, err := cacheaside.New(rdb, cacheaside.Options{Observer: w.events})
	require.NoError(t, err)
	t.Cleanup(waiting.Close)
	a := cacheaside.For[string](waiting, cacheaside.Policy{TTL: time.Hour})
	loading, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	ctx := t.Context()
	go func() {
		defer close(done)
		_, err := b.Get(ctx, w.key, func(context.Context) (string, error) { close(loading); <-goOn; return "1", nil })
		assert.NoError(t, err)
	}()
	<-loading
	go func() {
		defer close(goOn)
		for range 3 { // a has found out that somebody loads, and looks whether that is over
			<-looks.more
		}
	}()
	assert.Equal(t, "1", cacheGet(t, a, w.key, returns("2")))
	assert.Equal(t, []cacheaside.EventKind{cacheaside.EventWaited}, w.events.all())
	<-done
}

// answered is a hook that tells of every answer about a key.
type answered struct {
	key  string
	more chan struct{}
}

// DialHook is part of redis.Hook.
func (answered) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook is part of redis.Hook.
func (a answered) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer a.saw(cmd)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook is part of redis.Hook.
func (a answered) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		defer a.saw(cmds...)
		return next(ctx, cmds)
	}
}

func (a answered) saw(cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		if slices.Contains(cmd.Args(), any(a.key)) {
			a.more <- struct{}{}
		}
	}
}

func cacheRenewal(t *testing.T, w cacheWorld) {
	t.Helper()
	c, err := cacheaside.New(w.rdb, cacheaside.Options{Lease: 2 * time.Second})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	v := cacheaside.For[string](c, cacheaside.Policy{TTL: time.Hour})
	slow := func(context.Context) (string, error) { time.Sleep(3 * time.Second); return "slow", nil }
	assert.Equal(t, "slow", cacheGet(t, v, w.key, slow))
	assert.Equal(t, "slow", cacheGet(t, v, w.key, returns("it was not filled")), "the lease was renewed")
	require.NoError(t, c.Delete(t.Context(), w.key))
	_, err = v.Get(t.Context(), w.key, func(context.Context) (string, error) { return "", assert.AnError })
	require.ErrorIs(t, err, assert.AnError)
	assert.Zero(t, w.rdb.Exists(t.Context(), w.key).Val(), "the lease was released")
}

func cacheForeign(t *testing.T, w cacheWorld) {
	t.Helper()
	a, b := w.hourly()
	ctx := t.Context()
	for what, store := range map[string]func() error{
		"list":  func() error { return w.rdb.RPush(ctx, w.key, "x").Err() },
		"bytes": func() error { return w.rdb.Set(ctx, w.key, "x", 0).Err() },
		"long":  func() error { return w.rdb.Set(ctx, w.key, strings.Repeat("x", 1000), 0).Err() },
		"empty": func() error { return w.rdb.Set(ctx, w.key, "", 0).Err() },
	} {
		require.NoError(t, w.rdb.Del(ctx, w.key).Err())
		require.NoError(t, store())
		assert.Equal(t, "1", cacheGet(t, a, w.key, returns("1")), what)
		assert.Equal(t, "1", cacheGet(t, b, w.key, returns("2")), what)
		assert.Contains(t, w.events.all(), cacheaside.EventForeign)
	}
}
