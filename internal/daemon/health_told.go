package daemon

import (
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// What a watchedSink and a sourceSink tell, because no event does.

// asked says that somebody is about to have patterns purged. The event that
// the purge begins comes later, and not before another one is done. notAsked
// says that the call has failed.
func (h *health) asked(attempt int, patterns []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isCurrent(attempt) {
		return
	}
	for _, pattern := range patterns {
		h.askedFor(pattern)
	}
	h.lost = h.lost && len(patterns) == 0
}

func (h *health) notAsked(attempt int, patterns []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isCurrent(attempt) {
		return
	}
	for _, pattern := range patterns {
		h.notAskedFor(pattern)
	}
}

// locating says that the source asks what the cache remembers, and waits for the
// answer. What was said of parts of the cache is said again, where it is still so.
func (h *health) locating(attempt int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isCurrent(attempt) {
		return
	}
	h.life.called(time.Now())
	for part := range h.waiting {
		if isOfCache(part) {
			h.heal(part)
		}
	}
}

// located says that the source begins at what the cache remembers. The purges
// that were asked for are dropped then: whoever needs them asks again.
func (h *health) located(attempt int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isCurrent(attempt) {
		return
	}
	for _, p := range h.purges {
		h.progressed = h.progressed && !p.AtStart
	}
	clear(h.purges)
	h.covered.drop(isPurgeOwed)
}

// called says that the source waits for the cache; returned ends it.
func (h *health) called(attempt int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isCurrent(attempt) {
		h.life.called(time.Now())
	}
}

// returned says that the cache answered a call of the source, which had it
// delete keys. An empty batch is no progress: a source whose database is silent
// sends heartbeats all the same.
func (h *health) returned(attempt, keys int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isCurrent(attempt) {
		return
	}
	now := time.Now()
	h.life.returned(now)
	if err == nil && keys > 0 {
		h.progress(now)
	}
}

// answered says that the cache answered a batch, and reports whether that was
// one of the current attempt.
func (h *health) answered(attempt int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isCurrent(attempt) {
		return false
	}
	h.works(invalidation.PartCache)
	return true
}
