// Package cacheasidetest gives tests a cache of their own: a Redis in memory that runs the real protocol, and assertions
// about what happened to its keys.
//
//	cache := cacheasidetest.New(t, cacheaside.Options{})
//	service := NewService(db, cache.Client)
//	service.Rename(ctx, 42, "Grace")
//	cache.AssertDeleted(t, "user:42")
package cacheasidetest

import (
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/cacheaside"
)

// Cache is a Client and its Redis, which end with the test.
type Cache struct {
	*cacheaside.Client
	Redis *redis.Client // of the same Redis, for what the Client does not do

	server *miniredis.Miniredis
	mu     sync.Mutex
	gone   map[string]bool // keys that were deleted
	events []cacheaside.Event
}

// New starts a Cache. Options.Observer is told what happens as usual.
func New(tb testing.TB, opts cacheaside.Options) *Cache {
	tb.Helper()
	c := &Cache{server: miniredis.RunT(tb), gone: map[string]bool{}}
	c.server.Server().SetPreHook(c.record)
	c.Redis = redis.NewClient(&redis.Options{Addr: c.server.Addr(), ContextTimeoutEnabled: true})
	next := opts.Observer
	opts.Observer = cacheaside.ObserverFunc(func(e cacheaside.Event) {
		c.mu.Lock()
		c.events = append(c.events, e)
		c.mu.Unlock()
		if next != nil {
			next.Observe(e)
		}
	})
	var err error
	if c.Client, err = cacheaside.New(c.Redis, opts); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		c.Close()
		_ = c.Redis.Close()
	})
	return c
}

// record sees every command before it runs.
func (c *Cache) record(_ *server.Peer, command string, args ...string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if command == "UNLINK" || command == "DEL" {
		for _, key := range args {
			c.gone[key] = true
		}
	}
	return false
}

// AssertDeleted fails the test unless each of keys was deleted since the Cache was made or Reset, by whatever client.
func (c *Cache) AssertDeleted(tb testing.TB, keys ...string) {
	tb.Helper()
	for _, key := range keys {
		if !c.deleted(key) {
			tb.Errorf("the key %q was not deleted", key)
		}
	}
}

// AssertNotDeleted fails the test if one of keys was deleted since the Cache was made or Reset.
func (c *Cache) AssertNotDeleted(tb testing.TB, keys ...string) {
	tb.Helper()
	for _, key := range keys {
		if c.deleted(key) {
			tb.Errorf("the key %q was deleted", key)
		}
	}
}

func (c *Cache) deleted(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone[key]
}

// Count returns how many events of a kind there were since the Cache was made or Reset.
func (c *Cache) Count(kind cacheaside.EventKind) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// Reset forgets what was deleted and what happened. The entries stay.
func (c *Cache) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.gone)
	c.events = nil
}

// Pass lets d pass for Redis, so that entries and leases expire. The soft expiry is by the clock of the process.
func (c *Cache) Pass(d time.Duration) { c.server.FastForward(d) }

// Fail makes every command fail with message, such as "LOADING Redis is loading the dataset in memory", until it is
// called with "".
func (c *Cache) Fail(message string) { c.server.SetError(message) }
