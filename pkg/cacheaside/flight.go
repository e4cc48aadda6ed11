package cacheaside

import (
	"context"
	"errors"
	"sync"
	"time"
)

// flights are the reads of this process that missed, by key: those of one key share what one of them finds or loads.
type flights struct {
	mu         sync.Mutex
	byKey      map[string]*flight
	refreshing map[string]bool
	running    int       // goroutines
	idle       sync.Cond // on mu: running is 0
}

func newFlights() *flights {
	fs := &flights{byKey: map[string]*flight{}, refreshing: map[string]bool{}}
	fs.idle.L = &fs.mu
	return fs
}

// flight is the way of some reads to one entry. Its reads are numbered in the order in which they came, so that a read
// gets nothing that was decided before it came: see [flight.settle].
type flight struct {
	all     *flights
	key     string
	next    uint64
	waiters []*waiter // under all.mu
}

// waiter is one read of one key.
type waiter struct {
	n       uint64
	src     *source
	started time.Time
	done    chan outcome // takes one without blocking
}

// outcome is what a flight ended with for a waiter.
type outcome struct {
	value any    // what the waiter's own source loaded, if own
	entry []byte // the value as an entry; nil if there is none
	err   error  // of the load
	own   bool
	found bool // another filled the entry meanwhile
}

// source loads for one Get or GetMany.
type source struct {
	policy  *policy
	load    func(keys []string) map[string]loaded
	inspect func(raw []byte) (verdict, error)
}

func newWaiter(src *source) *waiter {
	return &waiter{src: src, started: time.Now(), done: make(chan outcome, 1)}
}

// join adds w to the key's flight. The first one has to fly it.
func (fs *flights) join(key string, w *waiter) (f *flight, first bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f = fs.byKey[key]
	if first = f == nil; first {
		f = &flight{all: fs, key: key}
		fs.byKey[key] = f
	}
	f.add(w)
	return f, first
}

// alone makes a flight that nobody else joins.
func (fs *flights) alone(key string, w *waiter) *flight {
	f := &flight{all: fs, key: key}
	f.add(w)
	return f
}

func (f *flight) add(w *waiter) {
	w.n = f.next
	f.next++
	f.waiters = append(f.waiters, w)
}

// forget lets reads that come from now on start flights of their own.
func (fs *flights) forget(keys []string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, key := range keys {
		delete(fs.byKey, key)
	}
}

// await returns what the flight brings w, or ctx's error.
func (f *flight) await(ctx context.Context, w *waiter) (outcome, error) {
	select {
	case o := <-w.done:
		return o, nil
	case <-ctx.Done():
		f.leave(w)
		return outcome{}, ctx.Err()
	}
}

func (f *flight) leave(w *waiter) {
	f.keep(func(other *waiter) bool { return other != w })
}

// keep drops the waiters that are not wanted, and ends the flight with the last one.
func (f *flight) keep(wanted func(*waiter) bool) (left int) {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	var rest []*waiter
	for _, w := range f.waiters {
		if wanted(w) {
			rest = append(rest, w)
		}
	}
	f.waiters = rest
	if len(rest) == 0 && f.all.byKey[f.key] == f {
		delete(f.all.byKey, f.key)
	}
	return len(rest)
}

// first is the waiter that came first; nil if nobody waits.
func (f *flight) first() *waiter {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	if len(f.waiters) == 0 {
		return nil
	}
	return f.waiters[0]
}

// mark returns the number of the next waiter: those below it came before whatever is done next.
func (f *flight) mark() uint64 {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	return f.next
}

// settle gives o to the waiters that may have it, and returns how many are left.
//
// A value is for those that came before what proves it fresh: before the load began, before the fill that was accepted
// was sent, or before the entry was looked at. A delete that was done before such a read came is older than the value.
// The failure of a load is for everybody, because it is no data, but not a loader's own cancellation. byWhom is the
// source that loaded, if one did.
func (f *flight) settle(o outcome, before uint64, byWhom *source) (left int) {
	value := o.value
	return f.keep(func(w *waiter) bool {
		o.own = byWhom != nil && w.src == byWhom
		switch {
		case o.own:
		case o.err != nil && !errors.Is(o.err, ErrNotFound):
			if errors.Is(o.err, context.Canceled) || errors.Is(o.err, context.DeadlineExceeded) {
				return true
			}
		case w.n >= before, o.entry == nil && o.err == nil:
			return true
		}
		o.value = nil
		if o.own {
			o.value = value
		}
		w.done <- o
		return false
	})
}

// spawn runs f in a goroutine that wait waits for.
func (fs *flights) spawn(f func()) {
	fs.mu.Lock()
	fs.running++
	fs.mu.Unlock()
	go func() {
		defer func() {
			fs.mu.Lock()
			defer fs.mu.Unlock()
			if fs.running--; fs.running == 0 {
				fs.idle.Broadcast()
			}
		}()
		f()
	}()
}

// wait returns when no goroutine of a flight runs.
func (fs *flights) wait() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for fs.running > 0 {
		fs.idle.Wait()
	}
}

// beginRefresh reports whether nobody in this process refreshes the key, and says that somebody does now.
func (fs *flights) beginRefresh(key string) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.refreshing[key] {
		return false
	}
	fs.refreshing[key] = true
	return true
}

func (fs *flights) endRefresh(key string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.refreshing, key)
}
