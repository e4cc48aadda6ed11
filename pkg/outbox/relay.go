package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	// beat is how long the Sink goes without a call: less than the second
	// that it asks for, so that a promotion that a Sentinel tells of late
	// is still noticed within two.
	beat = 400 * time.Millisecond
	// report is how often a reader that finds nothing says so.
	report = 500 * time.Millisecond
)

// relay is the time between two looks at what the Sink remembers. One
// goroutine reads ahead, one prunes, and the one of Run talks to the Sink.
type relay struct {
	source *Source
}

// rememberer is a Sink that tells what each master of its cache is known to
// remember, "" for one of which that is not known. It may hold a position back
// for long: a purge, or a second delete, is part of what the position covers.
type rememberer interface{ Stored() []string }

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
			if err := r.source.sink.Apply(ctx, invalidation.Batch{}); err != nil {
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
	if err := r.source.sink.Apply(ctx, invalidation.Batch{Keys: st.keys, Patterns: st.patterns, Position: st.position}); err != nil {
		return err
	}
	r.source.applied.Store(&st.at)
	r.source.observe(invalidation.Event{
		Kind: invalidation.Advanced, Text: st.text, Count: st.rows, Keys: len(st.keys), Coalesced: st.coalesced,
		At: st.newest, Oldest: st.oldest, Idle: st.idle,
	})
	return nil
}

// idle waits while the database is away, and keeps the Sink's heart beating.
func (r *relay) idle(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		if err := r.source.sink.Apply(ctx, invalidation.Batch{}); err != nil {
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
	told := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		stored := r.stored()
		if len(stored) == 0 && !told {
			told = true
			r.source.observe(invalidation.Event{
				Kind: invalidation.Noted,
				Text: fmt.Sprintf("outbox %s: no row is pruned, because the Sink does not tell what the cache remembers: give it a method Stored() []string", r.source.name),
			})
		}
		// A master that remembers nothing may need every row.
		if len(stored) > 0 && !slices.Contains(stored, "") {
			r.pruneOnce(ctx, stored)
		}
	}
}

func (r *relay) stored() []string {
	if sink, ok := r.source.sink.(rememberer); ok {
		return sink.Stored()
	}
	return nil
}

func (r *relay) pruneOnce(ctx context.Context, stored []string) {
	rows, err := r.source.log.prune(ctx, stored)
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
