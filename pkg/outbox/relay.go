package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	// beat is how long the Sink goes without a call: less than the second
	// that it asks for.
	beat = 800 * time.Millisecond
	// report is how often a reader that finds nothing says so.
	report = time.Second
)

// relay is the time between two looks at what the Sink remembers. One
// goroutine reads ahead, one prunes, and the one of Run talks to the Sink.
type relay struct {
	source *Source
	handed string                 // the position of an earlier Apply; not known to be stored
	stored atomic.Pointer[string] // the newest position that is known to be stored
}

// run returns the fault of the log, or the Sink's error.
func (r *relay) run(ctx context.Context) (fault, err error) {
	positions, err := r.source.sink.Positions(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	steps := make(chan step, 1) // one is applied while the next is read and a third waits
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(steps)
		fault = r.source.log.follow(ctx, positions, func(st step) error {
			select {
			case steps <- st:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	if !r.source.fromNow {
		wg.Go(func() { r.prune(ctx) })
	}
	err = r.apply(ctx, steps)
	cancel()
	wg.Wait()
	return fault, err
}

// apply does one step after the other. It returns when there is no further
// one or the Sink fails.
func (r *relay) apply(ctx context.Context, steps <-chan step) error {
	heart := time.NewTimer(beat)
	defer heart.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-heart.C:
			if err := r.hand(ctx, invalidation.Batch{}); err != nil {
				return err
			}
		case st, more := <-steps:
			if !more {
				return nil
			}
			if err := r.do(ctx, st); err != nil {
				return err
			}
		}
		heart.Reset(beat)
	}
}

func (r *relay) do(ctx context.Context, st step) error {
	if err := r.hand(ctx, invalidation.Batch{Keys: st.keys, Patterns: st.patterns, Position: st.position}); err != nil {
		return err
	}
	if len(st.patterns) > 0 {
		// A purge is worth remembering before anything can go wrong.
		if err := r.hand(ctx, invalidation.Batch{}); err != nil {
			return err
		}
	}
	if !st.caughtUp {
		return nil
	}
	at := st.newest
	if at.IsZero() {
		at = time.Now()
	}
	r.source.observe(invalidation.Event{Kind: invalidation.Advanced, At: at, Text: st.text, Count: len(st.keys)})
	return nil
}

// hand calls the Sink. A Sink stores a position with the call after the one
// that brought it, so what an earlier call brought is stored when this one
// returns.
func (r *relay) hand(ctx context.Context, b invalidation.Batch) error {
	if err := r.source.sink.Apply(ctx, b); err != nil {
		return err
	}
	if r.handed != "" {
		stored := r.handed
		r.stored.Store(&stored)
		r.handed = ""
	}
	if b.Position != "" {
		r.handed = b.Position
	}
	return nil
}

// idle waits while the database is away, and keeps the Sink's heart beating.
// The first beat comes at once: it stores a position that was handed over last.
func (r *relay) idle(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		if err := r.hand(ctx, invalidation.Batch{}); err != nil {
			return err
		}
		heart := time.NewTimer(beat)
		select {
		case <-ctx.Done():
			heart.Stop()
			return ctx.Err()
		case <-timer.C:
			heart.Stop()
			return nil
		case <-heart.C:
		}
	}
}

// prune removes old rows from time to time. A failure is told and tried again:
// it takes room in the database, but nothing from the cache.
func (r *relay) prune(ctx context.Context) {
	ticker := time.NewTicker(min(max(r.source.retention/20, time.Second), time.Minute))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		stored := r.stored.Load()
		if stored == nil {
			continue
		}
		rows, err := r.source.log.prune(ctx, *stored)
		if rows > 0 {
			r.source.observe(invalidation.Event{Kind: invalidation.Pruned, Count: rows})
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			r.source.observe(invalidation.Event{
				Kind: invalidation.Noted, Err: err,
				Text: fmt.Sprintf("outbox %s: old rows stay for now: %v", r.source.name, err),
			})
		}
	}
}
