package cacheaside

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// oneToken is a client whose process has one nonce for all of its leases.
type oneToken lease

// DialHook is part of redis.Hook.
func (oneToken) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook is ProcessHook for several commands.
func (o oneToken) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			rewrite(cmd.Args(), lease(o))
		}
		return next(ctx, cmds)
	}
}

// ProcessHook puts the one nonce in the place of every other.
func (o oneToken) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		rewrite(cmd.Args(), lease(o))
		return next(ctx, cmd)
	}
}

func Test8EveryFillHasANonceOfItsOwn(t *testing.T) {
	t.Parallel()

	// A read of a loads the old value; a write deletes the key; a second read of a leases it; the first one fills.
	run := func(t *testing.T, w world, a process) string {
		t.Helper()
		filling, mayFill, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
		fills := 0
		a.hooks.before = func(_ context.Context, s step, _ string) {
			if s != stepFill {
				return
			}
			if fills++; fills == 2 {
				close(filling)
				<-mayFill
				return
			}
			w.db.commit()
			check(t, a.Delete(context.WithoutCancel(t.Context()), key))
			go func() {
				defer close(done)
				_, _ = a.view.Get(context.WithoutCancel(t.Context()), key, w.db.load)
			}()
			<-filling
		}
		assert.Equal(t, "old", w.get(t, a), "this read began before the write")
		stored, err := w.redis.Get(key)
		require.NoError(t, err)
		close(mayFill)
		<-done
		kind, _, payload := parse([]byte(stored))
		if kind == kindLease {
			return "the second read's lease"
		}
		return string(payload)
	}
	t.Run("with one for each process it goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		rdb := connect(t, w.redis.Addr(), func(o *redis.Options) { o.ContextTimeoutEnabled = true }) // a copy would not have the hook
		rdb.AddHook(oneToken(newLease()))
		c, err := New(rdb, Options{RedisTimeout: unhurried, DeleteTimeout: unhurried})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		a := process{Client: c, view: For[string](c, Policy{TTL: time.Hour})}
		assert.Equal(t, `"old"`, run(t, w, a))
		assert.Equal(t, "old", w.get(t, w.b))
	})
	t.Run("the old fill is rejected", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		assert.Equal(t, "the second read's lease", run(t, w, w.a))
		assert.Equal(t, "new", w.get(t, w.b))
		assert.Equal(t, []EventKind{EventRejected, EventFilled}, w.a.events.kinds())
	})
}
