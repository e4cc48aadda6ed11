package cacheaside

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

var (
	errOwedTooMany = errors.New("cacheaside: more keys are owed than Options.OwedKeys")
	errOwedTooLong = errors.New("cacheaside: the delete failed for longer than Options.OwedFor")
	errOwedClosed  = errors.New("cacheaside: the client was closed")
)

const (
	firstRetry   = 50 * time.Millisecond
	longestRetry = 5 * time.Second
)

// owedDeletes retries deletes that failed. Its goroutine runs only while keys are owed.
type owedDeletes struct {
	unlink   func(ctx context.Context, keys []string) (failed []string, reason error)
	observer Observer
	limit    int           // keys
	keep     time.Duration // per key
	timeout  time.Duration // per round

	mu      sync.Mutex
	keys    map[string]owedKey
	added   uint64             // counts calls of add
	stop    context.CancelFunc // nil while the goroutine does not run
	closed  bool
	running sync.WaitGroup
}

type owedKey struct {
	added uint64    // the latest add: a delete that was sent before it does not settle it
	since time.Time // of that add
}

// add takes over keys whose delete failed with reason.
func (o *owedDeletes) add(ctx context.Context, keys []string, reason error) {
	kept, dropped, why := o.accept(ctx, keys)
	o.observe(EventOwed, kept, reason)
	o.observe(EventOwedDropped, dropped, why)
}

func (o *owedDeletes) accept(ctx context.Context, keys []string) (kept, dropped []string, why error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, keys, errOwedClosed
	}
	o.added++
	now := time.Now()
	for _, key := range keys {
		if _, known := o.keys[key]; !known && len(o.keys) >= o.limit {
			dropped = append(dropped, key)
			continue
		}
		o.keys[key] = owedKey{added: o.added, since: now}
		kept = append(kept, key)
	}
	if o.stop == nil {
		// The retry outlives the write that it starts with; close ends it.
		ctx, o.stop = context.WithCancel(context.WithoutCancel(ctx))
		o.running.Go(func() { o.run(ctx) })
	}
	return kept, dropped, errOwedTooMany
}

// run retries until nothing is owed or ctx is done.
func (o *owedDeletes) run(ctx context.Context) {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = firstRetry
	pauses.MaxInterval = longestRetry
	for !o.finished() {
		pause := time.NewTimer(pauses.NextBackOff())
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		if o.retry(ctx) {
			pauses.Reset()
		}
	}
}

// finished ends the goroutine when nothing is owed; the next add starts another.
func (o *owedDeletes) finished() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.keys) > 0 {
		return false
	}
	if o.stop != nil {
		o.stop()
		o.stop = nil
	}
	return true
}

// retry sends every owed delete once and reports whether any was done.
func (o *owedDeletes) retry(ctx context.Context) bool {
	owed, expired := o.due()
	o.observe(EventOwedDropped, expired, errOwedTooLong)
	if len(owed) == 0 {
		return false
	}
	keys := slices.Collect(maps.Keys(owed))
	bounded, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	failed, _ := o.unlink(bounded, keys)
	for _, key := range failed {
		delete(owed, key)
	}
	o.settle(owed)
	return len(owed) > 0
}

// due returns a copy of what is owed, and what has been for too long, which it drops.
func (o *owedDeletes) due() (owed map[string]owedKey, expired []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.keys, func(key string, k owedKey) bool {
		old := time.Since(k.since) >= o.keep
		if old {
			expired = append(expired, key)
		}
		return old
	})
	return maps.Clone(o.keys), expired
}

// settle forgets the keys that were deleted, unless a later write owes them again: its commit may have come after this
// delete.
func (o *owedDeletes) settle(done map[string]owedKey) {
	o.mu.Lock()
	for key, k := range done {
		if o.keys[key].added == k.added {
			delete(o.keys, key)
		}
	}
	o.mu.Unlock()
	for key, k := range done {
		o.observer.Observe(Event{Kind: EventOwedDone, Key: key, Took: time.Since(k.since)})
	}
}

// close stops the goroutine, waits for it and drops what is still owed.
func (o *owedDeletes) close() {
	o.mu.Lock()
	o.closed = true
	if o.stop != nil {
		o.stop()
		o.stop = nil
	}
	o.mu.Unlock()
	o.running.Wait()
	o.mu.Lock()
	dropped := slices.Collect(maps.Keys(o.keys))
	clear(o.keys)
	o.mu.Unlock()
	o.observe(EventOwedDropped, dropped, errOwedClosed)
}

func (o *owedDeletes) observe(kind EventKind, keys []string, reason error) {
	for _, key := range keys {
		o.observer.Observe(Event{Kind: kind, Key: key, Err: reason})
	}
}
