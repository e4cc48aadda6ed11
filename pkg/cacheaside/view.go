package cacheaside

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrNotFound is what a loader returns, wrapped or not, for a thing that does not exist. Get returns it, and remembers it
// for [Policy.NegativeTTL].
var ErrNotFound = errors.New("cacheaside: not found")

var errNoLoader = errors.New("cacheaside: get: load is nil and the view has no LoadMany")

// Loader reads one value from where it really is. It must read the primary, outside of transactions that began before
// it was called, and return [ErrNotFound] for what does not exist. Its context has the values of its caller's, but ends
// with [Policy.LoadTimeout] only: others may wait for the same load.
type Loader[T any] func(ctx context.Context) (T, error)

// View reads entries that hold a T. It is safe for concurrent use; make one for each kind of entry.
type View[T any] struct {
	c        *Client
	policy   policy
	loadMany BatchLoader[T]
	merge    *merging
	err      error // what is wrong with the policy
}

// ViewOption is an option of [For] that depends on T.
type ViewOption[T any] func(*View[T])

// LoadMany gives the view a loader of many keys, which loads what Get misses: with [Policy.MergeWindow] many at a time,
// and wherever Get is called with a nil loader.
func LoadMany[T any](load BatchLoader[T]) ViewOption[T] {
	return func(v *View[T]) { v.loadMany = load }
}

// For returns a view of c's entries. An invalid policy is reported by every Get and GetMany.
func For[T any](c *Client, p Policy, opts ...ViewOption[T]) *View[T] {
	v := &View[T]{c: c}
	v.policy, v.err = newPolicy(p, c.opts.Observer.Observe)
	for _, opt := range opts {
		opt(v)
	}
	if p.MergeWindow > 0 && v.loadMany == nil {
		v.err = errors.Join(v.err, errors.New("cacheaside: Policy.MergeWindow is set without a loader of many keys: "+
			"give For the option LoadMany, or set MergeWindow to 0"))
	}
	v.merge = &merging{c: c, window: p.MergeWindow}
	return v
}

// Get returns the value under key, from Redis or else from load, whose value it stores unless the key was deleted
// meanwhile. When another reader is loading the key, in this process or another, Get waits for it: for another process
// for up to [Options.MaxWait], then it loads without storing. A value that others loaded is returned only if that cannot
// be older than a delete that was done before this Get began; otherwise this Get loads too, once at most.
//
// load runs in a goroutine of its own. It goes on when ctx is done, for others and for the cache. Its error is returned
// as it is; a panic becomes a [*PanicError], and so does either for the reads that waited for it. Get fails otherwise only
// when ctx is done, with [ErrTooManyLoads] or with [ErrLoaderOpen]. Trouble with Redis never fails it: after at most a
// few times [Options.RedisTimeout] it calls load.
func (v *View[T]) Get(ctx context.Context, key string, load Loader[T]) (T, error) {
	var zero T
	switch {
	case v.err != nil:
		return zero, v.err
	case load == nil && v.loadMany == nil:
		return zero, errNoLoader
	case ctx.Err() != nil:
		return zero, fmt.Errorf("cacheaside: get: %w", ctx.Err())
	}
	started := time.Now()
	at := v.c.get(ctx, key, started)
	if at.raw != nil {
		if at.shared && v.policy.format == formatCustom { // a Codec may keep what it decodes
			at.raw = slices.Clone(at.raw)
		}
		value, verdict, err := v.read(at.raw, started)
		if verdict.usable() {
			v.hit(ctx, key, at.raw, verdict, load, err, started)
			return value, err
		}
	}
	if ctx.Err() != nil {
		return zero, fmt.Errorf("cacheaside: get: %w", ctx.Err())
	}
	return v.miss(ctx, key, at, load, started)
}

// hit reports a read that its first look answered, and has the value refreshed if it is due.
func (v *View[T]) hit(ctx context.Context, key string, raw []byte, verdict verdict, load Loader[T], err error, started time.Time) {
	kind := EventHit
	switch {
	case err != nil:
		kind = EventHitAbsent
	case verdict == verdictDue:
		kind = EventStale
		v.c.refresh(ctx, key, raw, v.source(ctx, load))
	}
	v.c.opts.Observer.Observe(Event{Kind: kind, Key: key, Took: time.Since(started)})
}

// miss joins or begins a flight; at is what the first look found.
func (v *View[T]) miss(ctx context.Context, key string, at look, load Loader[T], started time.Time) (T, error) {
	w := newWaiter(nil)
	f := v.depart(ctx, key, at, load, w)
	o, err := f.await(ctx, w)
	if err != nil {
		var zero T
		return zero, fmt.Errorf("cacheaside: get: %w", err)
	}
	value, err, ok := v.arrive(key, at, o, started)
	if ok {
		return value, err
	}
	// Another kind of view loaded it. This one replaces what it can't read.
	w = newWaiter(v.source(ctx, load))
	f = v.c.flights.alone(key, w)
	v.c.start(ctx, []*search{v.c.newSearch(f, look{unknown: true})})
	if o, err = f.await(ctx, w); err != nil {
		return value, fmt.Errorf("cacheaside: get: %w", err)
	}
	value, err, _ = v.arrive(key, at, o, started)
	return value, err
}

// depart makes w wait for the key, and begins what it waits for unless that is under way.
func (v *View[T]) depart(ctx context.Context, key string, at look, load Loader[T], w *waiter) *flight {
	if v.policy.MergeWindow > 0 {
		return v.merge.depart(ctx, key, at, w, func(ctx context.Context) *source { return v.sourceMany(ctx, v.loadMany) })
	}
	w.src = v.source(ctx, load)
	f, first := v.c.flights.join(key, w)
	if first {
		v.c.start(ctx, []*search{v.c.newSearch(f, at)})
	}
	return f
}

// start flies searches in the background, with ctx's values only.
func (c *Client) start(ctx context.Context, searches []*search) {
	ctx = context.WithoutCancel(ctx)
	c.flights.spawn(func() { c.fly(ctx, searches) })
}

// arrive makes a result of what a flight brought; ok is false if this view can't read it.
func (v *View[T]) arrive(key string, first look, o outcome, started time.Time) (value T, err error, ok bool) { //nolint:revive // ok is last, as usual
	switch {
	case o.err != nil:
		value, err = v.rescue(key, first, o.err, started)
		return value, err, true
	case o.own:
		value, ok = o.value.(T)
		return value, nil, ok || o.value == nil
	}
	value, verdict, err := v.read(o.entry, started)
	if verdict == verdictForeign {
		return value, err, false
	}
	kind := EventJoined
	if o.found {
		kind = EventWaited
	}
	v.c.opts.Observer.Observe(Event{Kind: kind, Key: key, Took: time.Since(started)})
	return value, err, true
}

// rescue returns the old value that this read found, if there is one and the policy allows it, instead of a load's
// error.
func (v *View[T]) rescue(key string, first look, failure error, started time.Time) (value T, err error) {
	if v.policy.StaleIfError == 0 || errors.Is(failure, ErrNotFound) || first.raw == nil {
		return value, failure
	}
	old, verdict, err := v.read(first.raw, started)
	_, h, _ := parse(first.raw)
	if err != nil || verdict < verdictClaimed || !v.policy.stale(h, time.Now()) {
		return value, failure
	}
	v.c.opts.Observer.Observe(Event{Kind: EventStaleIfError, Key: key, Err: failure, Took: time.Since(started)})
	return old, nil
}

// read returns the value in raw and whether it may be used. The error is ErrNotFound, or says why raw is foreign.
func (v *View[T]) read(raw []byte, now time.Time) (value T, _ verdict, err error) {
	kind, h, payload := parse(raw)
	switch {
	case kind == kindLease:
		return value, verdictLease, nil
	case kind == kindValue && h.flags&flagAbsent != 0:
		return value, verdictFresh, ErrNotFound
	case kind != kindValue, h.format != v.policy.format:
		return value, verdictForeign, errFormat
	}
	if err = v.policy.Codec.Unmarshal(payload, &value); err != nil {
		var zero T
		return zero, verdictForeign, err
	}
	return value, v.policy.judge(h, now), nil
}

// inspect is read for those who want the verdict only.
func (v *View[T]) inspect(raw []byte) (verdict, error) {
	_, verdict, err := v.read(raw, time.Now())
	if verdict.usable() {
		err = nil
	}
	return verdict, err
}

// source loads one key with the caller's loader.
func (v *View[T]) source(ctx context.Context, load Loader[T]) *source {
	if load == nil {
		return v.sourceMany(ctx, v.loadMany)
	}
	ctx = context.WithoutCancel(ctx)
	return &source{policy: &v.policy, inspect: v.inspect, load: func(keys []string) map[string]loaded {
		ctx, cancel := context.WithTimeout(ctx, v.policy.LoadTimeout)
		defer cancel()
		value, err := call(ctx, load)
		return map[string]loaded{keys[0]: v.loaded(value, err)}
	}}
}

// loaded encodes a value. A codec that panics is a value that can't be encoded.
func (v *View[T]) loaded(value T, err error) (l loaded) {
	l = loaded{value: value, err: err}
	if err != nil {
		return l
	}
	defer func() {
		if p := recover(); p != nil {
			l.unencoded = fmt.Errorf("the codec panicked: %v", p)
		}
	}()
	l.payload, l.unencoded = v.policy.Codec.Marshal(value)
	return l
}
