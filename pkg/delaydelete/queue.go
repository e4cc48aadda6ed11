package delaydelete

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// mergeUpTo is how many keys of neighbouring batches share one second delete.
const mergeUpTo = 4096

// entry is a batch that waits for its second delete.
type entry struct {
	batch invalidation.Batch
	due   time.Time
}

// queue holds the entries in the order of the log. One goroutine puts and one
// takes.
type queue struct {
	mu       sync.Mutex
	entries  []entry
	waiting  int           // keys and patterns of entries
	inFlight int           // keys and patterns of what take returned last
	busy     bool          // between take and done
	changed  chan struct{} // closed, and made anew, on every change
}

func newQueue() *queue { return &queue{changed: make(chan struct{})} }

// put appends a batch. It copies what it keeps: the slices are the caller's.
func (q *queue) put(b invalidation.Batch, due time.Time) {
	b.Keys, b.Patterns = slices.Clone(b.Keys), slices.Clone(b.Patterns)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.entries = append(q.entries, entry{batch: b, due: due})
	q.waiting += size(b)
	q.change()
}

// follow passes a position on behind everything that is queued now.
func (q *queue) follow(position string) {
	if position == "" {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.entries); n > 0 {
		q.entries[n-1].batch.Position = position // heartbeats never make the queue grow
		return
	}
	q.entries = append(q.entries, entry{batch: invalidation.Batch{Position: position}})
	q.change()
}

// take removes the entries at the head that are due, merged into one batch.
// Where none is due it returns a function that waits until that may have
// changed, or returns ctx's error. After a batch the caller has to call done.
func (q *queue) take(now time.Time) (b invalidation.Batch, wait func(context.Context) error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.entries) == 0 || q.entries[0].due.After(now) {
		return b, q.waiter(now)
	}
	n := 0
	for n < len(q.entries) && !q.entries[n].due.After(now) && (n == 0 || size(b)+size(q.entries[n].batch) <= mergeUpTo) {
		next := q.entries[n].batch
		b.Keys, b.Patterns = append(b.Keys, next.Keys...), append(b.Patterns, next.Patterns...)
		if next.Position != "" {
			b.Position = next.Position
		}
		q.entries[n] = entry{} // its keys are garbage now
		n++
	}
	q.entries = q.entries[n:]
	q.inFlight, q.busy = size(b), true
	q.waiting -= q.inFlight
	return b, nil
}

func (q *queue) waiter(now time.Time) func(context.Context) error {
	changed := q.changed
	var due time.Duration = -1
	if len(q.entries) > 0 {
		due = q.entries[0].due.Sub(now)
	}
	return func(ctx context.Context) error {
		var alarm <-chan time.Time
		if due >= 0 {
			timer := time.NewTimer(due)
			defer timer.Stop()
			alarm = timer.C
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-alarm:
		}
		return nil
	}
}

// done says that the batch that take returned is deleted.
func (q *queue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inFlight, q.busy = 0, false
	q.change()
}

// drop forgets everything that was not taken yet, and waits until what was
// taken is done.
func (q *queue) drop(ctx context.Context) error {
	for {
		busy, changed := q.dropNow()
		if !busy {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (q *queue) dropNow() (busy bool, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.entries, q.waiting = nil, 0
	q.change()
	return q.busy, q.changed
}

// idle reports whether nothing is queued or being deleted.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries) == 0 && !q.busy
}

// pending returns how many keys are not deleted a second time yet, and, where
// that is limit or more, a channel that is closed when it may have changed.
func (q *queue) pending(limit int) (keys int, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if keys = q.waiting + q.inFlight; keys >= limit {
		changed = q.changed
	}
	return keys, changed
}

func (q *queue) change() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func size(b invalidation.Batch) int { return len(b.Keys) + len(b.Patterns) }
