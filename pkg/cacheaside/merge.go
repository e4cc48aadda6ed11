package cacheaside

import (
	"context"
	"sync"
	"time"
)

const mergeLimit = 500 // keys that don't wait for more

// merging collects misses for one call of a view's BatchLoader.
type merging struct {
	c      *Client
	window time.Duration

	mu   sync.Mutex
	next *merged // nil: nobody collects
}

// merged is what will be loaded together.
type merged struct {
	src      *source
	searches []*search
	full     chan struct{}
}

// depart makes w wait for the key, which is loaded with those that miss within the window.
func (m *merging) depart(ctx context.Context, key string, at look, w *waiter, source func(context.Context) *source) *flight {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.next
	if next == nil {
		next = &merged{src: source(ctx), full: make(chan struct{})}
	}
	w.src = next.src
	f, first := m.c.flights.join(key, w)
	if !first {
		return f
	}
	next.searches = append(next.searches, m.c.newSearch(f, at))
	if m.next == nil {
		m.next = next
		ctx = context.WithoutCancel(ctx)
		m.c.flights.spawn(func() { m.collect(ctx, next) })
	}
	if len(next.searches) == mergeLimit {
		close(next.full)
		m.next = nil
	}
	return f
}

// collect waits for the window to end, and flies what came.
func (m *merging) collect(ctx context.Context, b *merged) {
	timer := time.NewTimer(m.window)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.full:
	}
	m.mu.Lock()
	if m.next == b {
		m.next = nil
	}
	searches := b.searches
	m.mu.Unlock()
	m.c.fly(ctx, searches)
}
