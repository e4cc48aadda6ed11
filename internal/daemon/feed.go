package daemon

import (
	"context"
	"sync"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// feed passes the events of one source on to those who wait for something in
// them: the commands of an operator.
type feed struct {
	mu        sync.Mutex
	leader    string // the other daemon that leads; "": none that is known
	listeners map[listener]struct{}
}

// listener is told what happens, by the goroutine that makes it happen: its
// methods must not block and must not call the feed.
type listener interface {
	// hear gets each event, with the attempt that it is of.
	hear(attempt int, e invalidation.Event)
	// reset says that the Sink begins anew: it has dropped all purges.
	reset()
}

func newFeed() *feed { return &feed{listeners: map[listener]struct{}{}} }

// beside returns the Observer of one attempt: its watch, and the feed.
func (f *feed) beside(watched watch) invalidation.Observer {
	return invalidation.ObserverFunc(func(e invalidation.Event) {
		watched.Observe(e)
		f.observe(watched.attempt, watched.redact.event(e))
	})
}

// observe passes on what an attempt has reported.
func (f *feed) observe(attempt int, e invalidation.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e.Kind { //nolint:exhaustive // the rest is for the listeners only
	case invalidation.Standby:
		f.leader = e.Text
	case invalidation.Leading:
		f.leader = ""
	}
	for l := range f.listeners {
		l.hear(attempt, e)
	}
}

func (f *feed) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for l := range f.listeners {
		l.reset()
	}
}

// listen tells l what happens until the returned function was called.
func (f *feed) listen(l listener) (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listeners[l] = struct{}{}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.listeners, l)
	}
}

// leads returns the other daemon that leads, as far as it is known.
func (f *feed) leads() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leader
}

// resetSink tells a feed when the Sink begins anew.
type resetSink struct {
	cache

	told *feed
}

// Positions implements invalidation.Sink.
func (s resetSink) Positions(ctx context.Context) ([]string, error) {
	positions, err := s.cache.Positions(ctx)
	s.told.reset()
	return positions, err
}
