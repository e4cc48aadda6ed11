package cacheaside

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lookers is how many reads share the next GET of the key in p.
func (p process) lookers() int {
	s := p.looks.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if next := s.byKey[key].next; next != nil {
		return next.waiting
	}
	return 0
}

// sharing starts a Get in p that shares the next GET, and returns when it does.
func (w world) sharing(ctx context.Context, t *testing.T, p process) (result func() (string, error)) {
	t.Helper()
	before, done := p.lookers(), make(chan struct{})
	var v string
	var err error
	go func() {
		defer close(done)
		v, err = p.view.Get(ctx, key, w.db.load)
	}()
	require.Eventually(t, func() bool { return p.lookers() > before }, 10*time.Second, 100*time.Microsecond)
	return func() (string, error) { <-done; return v, err }
}

// heldLook has a begin a Get whose GET was answered by Redis and is not seen by anybody before goOn is closed.
func (w world) heldLook(t *testing.T, a process) (result <-chan string, goOn chan struct{}, gets func() int) {
	t.Helper()
	a.looks.alongside = 1
	var mu sync.Mutex
	n, answered := 0, make(chan struct{})
	goOn = make(chan struct{})
	a.hooks.after = func(s step, _ string) {
		mu.Lock()
		n++
		first := n == 1
		mu.Unlock()
		if first && s == stepGet {
			close(answered)
			<-goOn
		}
	}
	early := make(chan string, 1)
	ctx := context.WithoutCancel(t.Context())
	go func() {
		v, _ := a.view.Get(ctx, key, w.db.load)
		early <- v
	}()
	<-answered
	return early, goOn, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

func TestAReadDoesNotShareAGETThatWasSentBeforeItCame(t *testing.T) {
	t.Parallel()
	t.Run("if it joins the GET under way it goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.get(t, w.a)
		answered, goOn := make(chan struct{}), make(chan struct{})
		begin := singleflight(func() string {
			v := w.get(t, w.b)
			close(answered)
			<-goOn
			return v
		})
		begin()
		<-answered
		w.db.commit()
		require.NoError(t, w.a.Delete(t.Context(), key))
		late := begin()
		close(goOn)
		assert.Equal(t, "old", late())
	})
	for who, other := range map[string]bool{"this process deletes": false, "another process deletes": true} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.get(t, w.b)
			a := newProcess(t, w.redis.Addr(), Options{})
			early, goOn, _ := w.heldLook(t, a)
			w.db.commit()
			deleter := a
			if other {
				deleter = w.b
			}
			require.NoError(t, deleter.Delete(t.Context(), key))
			late := w.sharing(t.Context(), t, a)
			close(goOn)
			assert.Equal(t, "old", <-early, "this read began before the write")
			v, err := late()
			require.NoError(t, err)
			assert.Equal(t, "new", v)
		})
	}
}

func TestReadsThatComeDuringAGETShareTheNext(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.get(t, w.b)
	a := newProcess(t, w.redis.Addr(), Options{})
	early, goOn, gets := w.heldLook(t, a)
	var all []func() (string, error)
	for range 5 {
		all = append(all, w.sharing(t.Context(), t, a))
	}
	ctx, cancel := context.WithCancel(t.Context())
	left := w.sharing(ctx, t, a)
	cancel()
	_, err := left()
	require.ErrorIs(t, err, context.Canceled, "each leaves with its own context")
	close(goOn)
	assert.Equal(t, "old", <-early)
	for _, result := range all {
		v, err := result()
		require.NoError(t, err)
		assert.Equal(t, "old", v)
	}
	a.Close()
	assert.Equal(t, 2, gets())
	assert.Empty(t, a.looks.shard(key).byKey, "nothing is left behind")
}

func TestAGETThatNobodyWaitsForIsNotSent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.get(t, w.b)
	a := newProcess(t, w.redis.Addr(), Options{})
	early, goOn, gets := w.heldLook(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	left := w.sharing(ctx, t, a)
	cancel()
	_, err := left()
	require.ErrorIs(t, err, context.Canceled)
	close(goOn)
	<-early
	a.Close()
	assert.Equal(t, 1, gets())
	assert.Empty(t, a.looks.shard(key).byKey)
}

func TestTheFailureOfASharedGETIsForAllWhoWaitedForIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.get(t, w.b)
	a := newProcess(t, w.redis.Addr(), Options{BreakAfter: -1})
	early, goOn, _ := w.heldLook(t, a)
	x, y := w.sharing(t.Context(), t, a), w.sharing(t.Context(), t, a)
	w.redis.SetError("ERR broken")
	close(goOn)
	assert.Equal(t, "old", <-early)
	for _, result := range []func() (string, error){x, y} {
		v, err := result()
		require.NoError(t, err, "trouble with Redis never fails a read")
		assert.Equal(t, "old", v)
	}
	assert.Contains(t, a.events.kinds(), EventRedisError)
	w.redis.SetError("")
	assert.Equal(t, "old", w.get(t, a))
}

// keeper is a codec that keeps and changes what it decodes, as codecs may.
type keeper struct{ Raw }

func (keeper) Unmarshal(payload []byte, v any) error {
	err := Raw{}.Unmarshal(payload, v)
	clear(payload)
	return err
}

func TestReadsThatShareAReplyDecodeCopies(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := newProcess(t, w.redis.Addr(), Options{})
	a.view = For[string](a.Client, Policy{Codec: keeper{}})
	w.get(t, a)
	early, goOn, _ := w.heldLook(t, a)
	x, y := w.sharing(t.Context(), t, a), w.sharing(t.Context(), t, a)
	close(goOn)
	assert.Equal(t, "old", <-early)
	for _, result := range []func() (string, error){x, y} {
		v, err := result()
		require.NoError(t, err)
		assert.Equal(t, "old", v)
	}
	assert.Equal(t, 1, w.db.loaded())
}

// pipelined counts what a Redis client sends.
type pipelined struct {
	mu                   sync.Mutex
	commands, inPipeline map[string]int
}

func (h *pipelined) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *pipelined) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.mu.Lock()
		h.commands[cmd.Name()]++
		h.mu.Unlock()
		return next(ctx, cmd)
	}
}

func (h *pipelined) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.mu.Lock()
		for _, cmd := range cmds {
			h.inPipeline[cmd.Name()]++
		}
		h.mu.Unlock()
		return next(ctx, cmds)
	}
}

// crowd has n reads of n keys at a time, several times.
func crowd(t *testing.T, v *View[string], n int, load Loader[string]) (failed int) {
	t.Helper()
	var mu sync.Mutex
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() {
			for range 20 {
				if _, err := v.Get(t.Context(), key+strings.Repeat("x", i), load); err != nil {
					mu.Lock()
					failed++
					mu.Unlock()
				}
			}
		})
	}
	done.Wait()
	return failed
}

func TestAutoPipelineSendsOnlyGETs(t *testing.T) {
	t.Parallel()
	for name, on := range map[string]bool{"with it": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := miniredis.RunT(t)
			rdb := connect(t, m.Addr(), func(o *redis.Options) { o.ContextTimeoutEnabled = true })
			h := &pipelined{commands: map[string]int{}, inPipeline: map[string]int{}}
			rdb.AddHook(h)
			c, err := New(rdb, Options{AutoPipeline: on, RedisTimeout: 10 * time.Second})
			require.NoError(t, err)
			t.Cleanup(c.Close)
			v := For[string](c, Policy{TTL: time.Hour})
			assert.Zero(t, crowd(t, v, 64, func(context.Context) (string, error) { return "value", nil }))
			h.mu.Lock()
			defer h.mu.Unlock()
			assert.Equal(t, 64, h.commands["set"], "the hooks of the client see what is sent")
			assert.Equal(t, on, h.inPipeline["get"] > 0)
			delete(h.inPipeline, "get")
			delete(h.inPipeline, "hello")
			delete(h.inPipeline, "client")
			assert.Empty(t, h.inPipeline)
		})
	}
}

func TestReadsDoNotFailWithAnAutoPipelineThatDoes(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	p := newProxy(t, m.Addr(), func([]byte) bool { return false })
	rdb := connect(t, p.addr, func(o *redis.Options) { o.MaxRetries = -1 })
	c, err := New(rdb, Options{AutoPipeline: true, RedisTimeout: 200 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	v := For[string](c, Policy{TTL: time.Hour})
	load := func(context.Context) (string, error) { return "value", nil }
	assert.Zero(t, crowd(t, v, 32, load))
	m.SetError("LOADING Redis is loading the dataset in memory")
	assert.Zero(t, crowd(t, v, 32, load))
	m.SetError("")
	assert.Zero(t, crowd(t, v, 32, load))
	m.Close() // nobody listens
	began := time.Now()
	assert.Zero(t, crowd(t, v, 32, load))
	assert.Less(t, time.Since(began), 10*time.Second)
	require.NoError(t, rdb.Close())
	_, err = v.Get(t.Context(), key, func(context.Context) (string, error) { return "", errors.New("of the load") })
	require.EqualError(t, err, "of the load")
}

func TestContextTimeoutEnabledKeepsTheHooksOfTheClient(t *testing.T) {
	t.Parallel()
	for name, enabled := range map[string]bool{"with it": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := connect(t, miniredis.RunT(t).Addr(), func(o *redis.Options) { o.ContextTimeoutEnabled = enabled })
			h := &pipelined{commands: map[string]int{}, inPipeline: map[string]int{}}
			rdb.AddHook(h)
			c, err := New(rdb, Options{})
			require.NoError(t, err)
			t.Cleanup(c.Close)
			_, err = For[string](c, Policy{}).Get(t.Context(), key, func(context.Context) (string, error) { return "value", nil })
			require.NoError(t, err)
			h.mu.Lock()
			defer h.mu.Unlock()
			assert.Equal(t, enabled, h.commands["get"] > 0)
		})
	}
}
