package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed-038af1a6/invalidator/bench/internal/report"
)

const (
	processes = 4
	poolSize  = 64
	rate      = 2000 // reads a second; they come whether or not earlier ones have returned
	watched   = 1300 * time.Millisecond
	between   = 20 * time.Millisecond // from one write of the row to the next
)

// event is what happens to the entry while it is read.
type event int

const (
	expiry   event = iota // its TTL ends
	deletion              // the row is written and the entry deleted, twice in a row
)

// outcome is what the reads during one event saw.
type outcome struct {
	p50, p99, max time.Duration
	loads         int64
	age           time.Duration // since the load of the oldest value served began
	stale         int           // reads that began after a delete and returned what it had deleted
	staleFor      time.Duration // the longest time since that delete
}

// trial is one event of one strategy.
type trial struct {
	readers []reader
	db      database
	deletes deletes

	mu       sync.Mutex
	reads    []time.Duration
	worst    outcome
	firstErr error
}

func newTrial(readers []reader) *trial { return &trial{readers: readers} }

// run fills the entry, and reads it from then on until the event is over.
func (t *trial) run(ctx context.Context, e event) (outcome, error) {
	if _, err := t.readers[0].read(ctx, t.db.load); err != nil {
		return outcome{}, fmt.Errorf("fill: %w", err)
	}
	t.db.loads.Store(0)
	var wg sync.WaitGroup
	if e == deletion {
		wg.Go(func() { t.fail(t.writeTwice(ctx)) })
	}
	t.arrive(ctx, &wg)
	wg.Wait()
	if t.firstErr != nil {
		return outcome{}, t.firstErr
	}
	o := t.worst
	o.p50, o.p99, o.max = report.Median(t.reads), report.Quantile(t.reads, 0.99), report.Quantile(t.reads, 1)
	o.loads = t.db.loads.Load()
	return o, ctx.Err()
}

// arrive starts reads at the rate, each in a goroutine of its own, so that slow ones do not hold others up.
func (t *trial) arrive(ctx context.Context, wg *sync.WaitGroup) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		elapsed := time.Since(start)
		if elapsed > watched {
			return
		}
		for ; n < int(elapsed.Seconds()*rate); n++ {
			r := t.readers[n%len(t.readers)]
			wg.Go(func() { t.fail(t.read(ctx, r)) })
		}
	}
}

func (t *trial) read(ctx context.Context, r reader) error {
	start := time.Now()
	value, err := r.read(ctx, t.db.load)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	end := time.Now()
	version, began, err := parse(value)
	if err != nil {
		return err
	}
	staleFor := t.deletes.staleFor(version, start)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads = append(t.reads, end.Sub(start))
	t.worst.age = max(t.worst.age, end.Sub(began))
	if staleFor > 0 {
		t.worst.stale++
		t.worst.staleFor = max(t.worst.staleFor, staleFor)
	}
	return nil
}

// writeTwice writes the row and deletes the entry, and does so again while the loads of the first time are under way.
func (t *trial) writeTwice(ctx context.Context) error {
	for range 2 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(between):
		}
		t.db.version.Add(1)
		if err := t.readers[0].remove(ctx); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		t.deletes.note(time.Now())
	}
	return nil
}

func (t *trial) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.firstErr == nil {
		t.firstErr = err
	}
}
