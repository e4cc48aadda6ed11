package redissink

import (
	"sync"
	"testing"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// heard collects events.
type heard struct {
	mu     sync.Mutex
	events []invalidation.Event
	more   chan struct{}
}

func listen() *heard { return &heard{more: make(chan struct{}, 1)} }

func (h *heard) Observe(e invalidation.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
	select {
	case h.more <- struct{}{}:
	default:
	}
}

// await returns the first event of a kind, of any part or of the given one.
func (h *heard) await(t *testing.T, kind invalidation.Kind, part ...string) invalidation.Event {
	t.Helper()
	e, _ := h.find(t, kind, part...)
	return e
}

// hears is await for the event after the one that it returned before.
func (h *heard) hears(t *testing.T, kind invalidation.Kind, part string) invalidation.Event {
	t.Helper()
	e, at := h.find(t, kind, part)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = h.events[at+1:]
	return e
}

func (h *heard) find(t *testing.T, kind invalidation.Kind, part ...string) (e invalidation.Event, at int) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		h.mu.Lock()
		for i, e := range h.events {
			if e.Kind == kind && (part == nil || e.Part == part[0]) {
				h.mu.Unlock()
				return e, i
			}
		}
		h.mu.Unlock()
		select {
		case <-h.more:
		case <-late:
			t.Fatalf("no event %d of %v: %+v", kind, part, h.events)
		}
	}
}

// waiting returns the parts that were said to wait and not to work since.
func (h *heard) waiting() map[string]error {
	h.mu.Lock()
	defer h.mu.Unlock()
	parts := map[string]error{}
	for _, e := range h.events {
		switch e.Kind {
		case invalidation.Waiting:
			parts[e.Part] = e.Err
		case invalidation.Working:
			delete(parts, e.Part)
		}
	}
	return parts
}
