package cacheaside

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func Test46ALateCopyOfALeaseDoesNotBringItBack(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond

	t.Run("a client that sends the command again goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		p := newProxy(t, w.redis.Addr(), firstOf(containing("\r\nnx\r\n")))
		slow := connect(t, p.addr, func(o *redis.Options) { o.ReadTimeout = timeout })
		l := newLease()
		err := slow.Do(t.Context(), "set", key, l[:], "nx", "get", "px", 5000).Err()
		require.ErrorIs(t, err, redis.Nil, "the second copy is granted")
		read, err := w.db.load(t.Context())
		require.NoError(t, err)
		w.write(t)
		p.deliver()
		<-p.landed

		require.True(t, w.a.fillWith(t, l, w.a.entry(t, read)))
		assert.Equal(t, "old", w.get(t, w.b))
	})

	t.Run("a new nonce for every attempt", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		p := newProxy(t, w.redis.Addr(), firstOf(containing("\r\nnx\r\n")))
		slow := newProcess(t, p.addr, Options{RedisTimeout: timeout, MaxWait: defaultLease})
		slow.once(stepFill, func() {
			w.write(t)
			p.deliver()
			<-p.landed
		})
		assert.Equal(t, "old", w.get(t, slow))
		assert.Equal(t, []EventKind{EventRedisError, EventRejected}, slow.events.kinds())

		b := newProcess(t, w.redis.Addr(), Options{MaxWait: 20 * time.Millisecond})
		assert.Equal(t, "new", w.get(t, b), "the late lease has no holder")
		w.redis.FastForward(defaultLease)
		assert.Equal(t, "new", w.get(t, b))
		assert.Equal(t, EventFilled, b.events.last().Kind)
	})
}

// leases returns the nonces among the requests.
func (p *proxy) leases() (found [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.requests {
		if i := bytes.Index(r, []byte("$17\r\nL")); i >= 0 {
			found = append(found, r[i+5:][:leaseLen])
		}
	}
	return found
}

// everyLease is leases for requests that hold several.
func (p *proxy) everyLease() (found [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.requests {
		for {
			i := bytes.Index(r, []byte("$17\r\nL"))
			if i < 0 {
				break
			}
			found = append(found, r[i+5:][:leaseLen])
			r = r[i+5+leaseLen:]
		}
	}
	return found
}

// clusterOf is a client of a cluster of one node.
func clusterOf(t *testing.T, addr string, timeout time.Duration) redis.UniversalClient {
	t.Helper()
	c := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{addr}, ContextTimeoutEnabled: true, ReadTimeout: timeout,
		ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
			return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: addr}}}}, nil
		},
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func distinct(all [][]byte) int {
	seen := map[string]bool{}
	for _, one := range all {
		seen[string(one)] = true
	}
	return len(seen)
}

// cutOff is a proxy that lets nothing through that grants a lease.
func cutOff(t *testing.T, server string) *proxy {
	t.Helper()
	return newProxy(t, server, func(request []byte) bool {
		return bytes.Contains(request, []byte("\r\nnx\r\n")) || bytes.Contains(request, []byte("\r\nevalsha\r\n"))
	})
}

func TestALeaseGoesOnTheWireOnceWhateverTheClient(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond // of one attempt of the client
	clients := map[string]func(t *testing.T, addr string) redis.UniversalClient{
		"single": func(t *testing.T, addr string) redis.UniversalClient {
			t.Helper()
			return connect(t, addr, func(o *redis.Options) { o.ReadTimeout = timeout })
		},
		"single with context timeouts": func(t *testing.T, addr string) redis.UniversalClient {
			t.Helper()
			return connect(t, addr, func(o *redis.Options) { o.ContextTimeoutEnabled, o.ReadTimeout = true, timeout })
		},
		"cluster": func(t *testing.T, addr string) redis.UniversalClient {
			t.Helper()
			return clusterOf(t, addr, timeout)
		},
	}
	for name, connectTo := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("an ordinary command is sent again", func(t *testing.T) {
				t.Parallel()
				w := setup(t)
				p := cutOff(t, w.redis.Addr())
				rdb := connectTo(t, p.addr)
				l := newLease()
				require.Error(t, rdb.Do(t.Context(), "set", key, l[:], "nx", "get", "px", 5000).Err())
				assert.Greater(t, len(p.leases()), distinct(p.leases()))
			})
			for what, store := range map[string]func(m *miniredis.Miniredis){
				"absent":  func(*miniredis.Miniredis) {},
				"foreign": func(m *miniredis.Miniredis) { _ = m.Set(key, "foreign") },
				"a hash":  func(m *miniredis.Miniredis) { m.HSet(key, "a", "1") },
			} {
				t.Run(what, func(t *testing.T) {
					t.Parallel()
					w := setup(t)
					store(w.redis)
					p := cutOff(t, w.redis.Addr())
					events := newRecorder()
					c, err := New(connectTo(t, p.addr), Options{RedisTimeout: 10 * timeout, MaxWait: 4 * timeout, Observer: events})
					require.NoError(t, err)
					v, err := For[string](c, Policy{}).Get(t.Context(), key, w.db.load)
					require.NoError(t, err)
					assert.Equal(t, "old", v)
					assert.Equal(t, EventNotFilled, events.last().Kind)
					assert.NotEmpty(t, p.leases())
					assert.Len(t, p.leases(), distinct(p.leases()))
				})
			}
		})
	}
}

func TestALeaseWhoseReplyWasLostIsRecognized(t *testing.T) {
	t.Parallel()
	w := setup(t)
	p := newProxy(t, w.redis.Addr(), firstOf(containing("\r\nnx\r\n")))
	slow := newProcess(t, p.addr, Options{RedisTimeout: 500 * time.Millisecond, MaxWait: defaultLease})
	n := 0
	slow.hooks.before = func(_ context.Context, s step, _ string) {
		if s != stepLease {
			return
		}
		if n++; n == 2 { // the first attempt has timed out; now it lands, before the second is sent
			p.deliver()
			<-p.landed
		}
	}
	assert.Equal(t, "old", w.get(t, slow))
	assert.Equal(t, []EventKind{EventRedisError, EventFilled}, slow.events.kinds())
}
