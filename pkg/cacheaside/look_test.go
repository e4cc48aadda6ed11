package cacheaside

import (
	"context"
	"sync"
	"testing"
	"time"

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
