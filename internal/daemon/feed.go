package daemon

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// feed passes the events of one source on to those who wait for something in
// them, the commands of an operator, and remembers what operators want purged
// until that is done. A source that takes the place of another has its feed.
type feed struct {
	log *slog.Logger

	mu        sync.Mutex
	leader    string // the other daemon that leads; "": none that is known
	listeners map[listener]struct{}
	purges    []*purgeProgress // that are not over, also where nobody follows them any more
}

// listener is told what happens, by the goroutine that makes it happen: its
// methods must not block and must not call the feed.
type listener interface {
	// hear gets each event, with the attempt that it is of.
	hear(attempt int, e invalidation.Event)
}

func newFeed(log *slog.Logger) *feed { return &feed{log: log, listeners: map[listener]struct{}{}} }

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
		f.dropPurges(Progress{Error: e.Text + " leads now: ask that one again", Leader: e.Text})
	case invalidation.Leading:
		f.leader = ""
	}
	for l := range f.listeners {
		l.hear(attempt, e)
	}
	for _, p := range f.purges {
		p.hear(attempt, e)
	}
	f.purges = slices.DeleteFunc(f.purges, (*purgeProgress).isOver)
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

// owe remembers a purge until it is over or refused.
func (f *feed) owe(p *purgeProgress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.purges = append(f.purges, p)
}

// refused forgets a purge that the cache did not take.
func (f *feed) refused(p *purgeProgress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.purges = slices.DeleteFunc(f.purges, func(owed *purgeProgress) bool { return owed == p })
}

// owed returns what is still to be purged. The Sink has begun anew, and forgotten
// all of it.
func (f *feed) owed() (patterns []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.purges {
		patterns = append(patterns, p.again()...)
	}
	return patterns
}

// ended says that the source has ended and that no other takes its place.
func (f *feed) ended() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropPurges(Progress{Error: errEnded.Error()})
}

// dropPurges gives up what operators want purged: nobody makes it here.
func (f *feed) dropPurges(why Progress) {
	for _, p := range f.purges {
		for _, pattern := range p.again() {
			f.log.Warn("a purge by hand is not done, and not remembered: ask for it again", slog.String("pattern", pattern), slog.String("reason", why.Error))
		}
		p.fail(why)
	}
	f.purges = nil
}

// resetSink asks for what operators want purged again where the Sink begins
// anew.
type resetSink struct {
	cache

	told *feed
}

// Positions implements invalidation.Sink.
func (s resetSink) Positions(ctx context.Context) ([]string, error) {
	positions, err := s.cache.Positions(ctx)
	if err != nil {
		return nil, err
	}
	if owed := s.told.owed(); len(owed) > 0 {
		_ = s.Purge(ctx, owed...) // fails only where Positions has to be called again
	}
	return positions, nil
}
