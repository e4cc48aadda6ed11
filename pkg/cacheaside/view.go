package cacheaside

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

const defaultTTL = 10 * time.Minute

// ErrNotFound is what a loader returns, wrapped or not, for a thing that does not exist. Get returns it as it is and
// stores nothing.
var ErrNotFound = errors.New("cacheaside: not found")

// Policy says how one kind of entry is kept. The zero value is the default.
type Policy struct {
	// TTL is how long an entry lives after its fill. At least 1 ms, default 10 min. It bounds what goes stale in the
	// cases that the guarantee exempts.
	TTL time.Duration
}

// Loader reads one value from where it really is. It must read the primary, outside of transactions that began before
// it was called, and return [ErrNotFound] for what does not exist.
type Loader[T any] func(ctx context.Context) (T, error)

// View reads entries that hold a T, encoded as JSON. It is safe for concurrent use and cheap to make.
type View[T any] struct {
	c      *Client
	policy Policy
	codec  codec[T]
	err    error // what is wrong with the policy
}

// For returns a view of c's entries. An invalid policy is reported by every Get.
func For[T any](c *Client, p Policy) *View[T] {
	v := &View[T]{c: c, policy: p, codec: jsonCodec[T]{}}
	switch {
	case p.TTL == 0:
		v.policy.TTL = defaultTTL
	case p.TTL < time.Millisecond:
		v.err = fmt.Errorf("cacheaside: Policy.TTL is %v: set it to 1ms or more, or to 0 for the default of %v", p.TTL, defaultTTL)
	}
	return v
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

// Get returns the value under key, from Redis or else from load, whose value it stores unless the key was deleted
// meanwhile. When another reader, in any process, is loading the key, Get waits for it for up to [Options.MaxWait].
//
// load runs in this goroutine with ctx, at most once. Its error is returned as it is; a panic becomes a [*PanicError].
// Get fails otherwise only when ctx is done. Trouble with Redis never fails it: after at most a few times
// [Options.RedisTimeout] it calls load.
func (v *View[T]) Get(ctx context.Context, key string, load Loader[T]) (T, error) {
	var zero T
	if v.err != nil {
		return zero, v.err
	}
	s := &search{c: v.c, key: key, started: time.Now()}
	at := s.get(ctx)
	value, ok := v.decode(s, at.raw)
	if ok {
		v.c.opts.Observer.Observe(Event{Kind: EventHit, Key: key, Took: time.Since(s.started)})
		return value, nil
	}
	found, err := s.run(ctx, at, func(raw []byte) bool {
		value, ok = v.decode(s, raw)
		return ok
	})
	switch {
	case err != nil:
		return zero, fmt.Errorf("cacheaside: get: %w", err)
	case found == foundValue:
		v.c.opts.Observer.Observe(Event{Kind: EventWaited, Key: key, Took: time.Since(s.started)})
		return value, nil
	}
	return v.load(ctx, s, found, load)
}

// decode returns the value in raw, if there is one that this view can read; s keeps the reason why not.
func (v *View[T]) decode(s *search, raw []byte) (value T, ok bool) {
	kind, h, payload := parse(raw)
	switch {
	case kind == kindValue && h.format == v.codec.format():
		value, s.why = v.codec.decode(payload)
		return value, s.why == nil
	case kind != kindLease:
		s.why = errFormat
	}
	return value, false
}

// load calls the loader and, if the search ended with a lease, fills the entry.
func (v *View[T]) load(ctx context.Context, s *search, found found, load Loader[T]) (value T, err error) {
	began := time.Now()
	var entry []byte
	if found == foundLease {
		// Also when the loader ends the goroutine: whoever waits for the lease would wait for nothing.
		defer func() {
			if entry == nil {
				s.release(ctx)
			}
		}()
	}
	v.c.hooks.at(ctx, stepLoad, s.key)
	value, err = call(ctx, load)
	cost := time.Since(began)
	if err != nil {
		v.c.opts.Observer.Observe(Event{Kind: EventLoadFailed, Key: s.key, Err: err, Took: cost})
		return value, err
	}
	done := Event{Kind: EventNotFilled, Key: s.key, Err: s.why, Took: cost}
	if found == foundLease {
		entry, done.Err = v.encode(value, began, cost)
	}
	if entry != nil {
		done.Kind, done.Err = s.fill(ctx, entry, v.policy.TTL)
	}
	v.c.opts.Observer.Observe(done)
	return value, nil
}

func (v *View[T]) encode(value T, began time.Time, cost time.Duration) ([]byte, error) {
	payload, err := v.codec.encode(value)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	h := header{format: v.codec.format(), fill: newFillID(), loadedAt: began, loadCost: cost}
	return appendValue(make([]byte, 0, headerLen+len(payload)), h, payload), nil
}

// call keeps a loader's panic from crossing the package's border.
func call[T any](ctx context.Context, load Loader[T]) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			var zero T
			value, err = zero, &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return load(ctx)
}
