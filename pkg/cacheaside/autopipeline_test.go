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
			c, err := New(rdb, Options{RedisTimeout: unhurried})
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
