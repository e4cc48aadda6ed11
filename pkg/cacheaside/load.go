package cacheaside

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

var errGoexit = errors.New("cacheaside: the loader ended its goroutine")

// renewals is how often a lease is renewed in its time.
const renewals = 3

// loaded is what a loader returned for one key.
type loaded struct {
	value     any
	payload   []byte
	err       error // of the loader
	unencoded error
}

// PanicError is what Get returns when the loader panicked.
type PanicError struct {
	Value any    // what the loader panicked with
	Stack []byte // of the panic; not part of Error
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("cacheaside: the loader panicked: %v", e.Value)
}

// Unwrap returns the value of the panic if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// call keeps a loader's panic from crossing the package's border.
func call[T any](ctx context.Context, load func(ctx context.Context) (T, error)) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			var zero T
			value, err = zero, &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return load(ctx)
}

// loadAll loads for all, one call for the keys of one source, fills what is held, and returns what is to be tried again
// because not every waiter could have the result.
func (c *Client) loadAll(ctx context.Context, all []*search) (left []*search) {
	bySource := map[*source][]*search{}
	for _, s := range all {
		bySource[s.src] = append(bySource[s.src], s)
	}
	src := all[0].src
	for other, group := range bySource {
		if other != src {
			c.flights.spawn(func() { c.fly(ctx, group) })
		}
	}
	return c.load(ctx, src, bySource[src])
}

func (c *Client) load(ctx context.Context, src *source, group []*search) (left []*search) {
	keys := make([]string, len(group))
	for i, s := range group {
		keys[i] = s.key
		if s.f != nil {
			s.mark = s.f.mark()
		}
		c.hooks.at(ctx, stepLoad, s.key)
	}
	began := time.Now()
	results := c.run(ctx, src, group, keys)
	cost := time.Since(began)
	if len(keys) > 1 {
		c.opts.Observer.Observe(Event{Kind: EventBatch, Keys: len(keys), Took: cost})
	}
	var fills []*fill
	for _, s := range group {
		fills = append(fills, s.fill(results[s.key], began, cost))
	}
	c.store(ctx, fills)
	for _, f := range fills {
		if f.finish() > 0 {
			f.again()
			left = append(left, f.search)
		}
	}
	return left
}

// run calls the loader in a goroutine of its own, and renews the leases while it waits.
func (c *Client) run(ctx context.Context, src *source, group []*search, keys []string) map[string]loaded {
	done := make(chan map[string]loaded, 1)
	c.flights.spawn(func() {
		results := same(keys, loaded{err: errGoexit})
		defer func() { done <- results }() // also when the loader ends the goroutine
		if err := c.admit(ctx, src.policy); err != nil {
			results = same(keys, loaded{err: err})
			return
		}
		defer func() {
			c.loads.ReleasePermit()
			src.policy.record(results)
		}()
		results = src.load(keys)
	})
	renew := time.NewTicker(max(c.opts.Lease/renewals, time.Millisecond))
	defer renew.Stop()
	end := time.NewTimer(c.opts.MaxWait + src.policy.LoadTimeout)
	defer end.Stop()
	for {
		select {
		case results := <-done:
			return results
		case <-renew.C:
			c.renew(ctx, group)
		case <-end.C: // the loader does not heed its context
			return same(keys, loaded{err: fmt.Errorf("cacheaside: the loader took longer than Policy.LoadTimeout: %w", context.DeadlineExceeded)})
		}
	}
}

func same(keys []string, l loaded) map[string]loaded {
	all := make(map[string]loaded, len(keys))
	for _, key := range keys {
		all[key] = l
	}
	return all
}

// renew gives the leases that are still there their time again.
func (c *Client) renew(ctx context.Context, group []*search) {
	var ops []*op
	for _, s := range group {
		if s.held != nil && s.released == nil { // a claim lasts for as long as a load may take
			ops = append(ops, c.fill.op(ctx, stepRenew, s.key, false, s.held, s.held, c.opts.Lease.Milliseconds()))
		}
	}
	if len(ops) > 0 {
		c.exec(ctx, ops)
	}
}

// fill is what becomes of one load.
type fill struct {
	*search
	result   loaded
	entry    []byte
	accepted uint64 // the mark before the fill was sent, if it was accepted
	event    Event
}

// fill makes the entry for a result, and says how it ended unless the entry is stored.
func (s *search) fill(r loaded, began time.Time, cost time.Duration) *fill {
	f := &fill{search: s, result: r, event: Event{Kind: EventNotFilled, Key: s.key, Err: s.why, Took: cost}}
	switch {
	case r.err != nil:
		f.event = Event{Kind: EventLoadFailed, Key: s.key, Err: r.err, Took: cost}
		if errors.Is(r.err, ErrNotFound) && s.src.policy.NegativeTTL > 0 {
			f.entry = s.src.policy.absence(began, cost)
		}
		if errors.Is(r.err, ErrNotFound) {
			s.released = nil // what was claimed is not to stay
		}
	case r.unencoded != nil:
		f.event.Err = fmt.Errorf("encode: %w", r.unencoded)
		s.released = nil
	default:
		f.entry = s.src.policy.entry(r.payload, began, cost)
	}
	return f
}

func (f *fill) absent() bool { return f.result.err != nil }

// store sends the fills in one round trip, and gives up in another what is held and not filled.
func (c *Client) store(ctx context.Context, fills []*fill) {
	var unused []*search
	var sent []*fill
	var ops []*op
	for _, f := range fills {
		if f.held == nil {
			continue
		}
		if f.entry == nil {
			unused = append(unused, f.search)
			continue
		}
		if f.f != nil {
			f.accepted = f.f.mark()
		}
		sent = append(sent, f)
		ops = append(ops, c.fill.op(ctx, stepFill, f.key, false, f.held, f.entry, f.src.policy.lifetime(f.absent()).Milliseconds()))
	}
	if len(ops) > 0 {
		c.exec(ctx, ops)
	}
	for i, f := range sent {
		if isReply(ops[i].err) { // such as OOM: the lease is still there, and removing it needs no memory
			unused = append(unused, f.search)
		}
		f.stored(ops[i])
	}
	c.release(ctx, unused)
}

// stored says how the fill went.
func (f *fill) stored(o *op) {
	switch {
	case o.err != nil:
		f.event.Kind, f.event.Err, f.accepted = EventNotFilled, o.err, 0
	case !o.yes():
		f.event.Kind, f.event.Err, f.accepted = EventRejected, nil, 0
	case f.absent():
		f.event.Kind = EventFilledAbsent
	case f.f == nil:
		f.event.Kind, f.event.Err = EventRefreshed, nil
	default:
		f.event.Kind, f.event.Err = EventFilled, nil
	}
}

// finish tells the observer and the waiters, and returns how many of these wait on.
func (f *fill) finish() int {
	f.c.opts.Observer.Observe(f.event)
	if f.f == nil {
		f.over = true
		return 0
	}
	o := outcome{value: f.result.value, entry: f.entry, err: f.result.err}
	return f.f.settle(o, max(f.mark, f.accepted), f.src)
}
