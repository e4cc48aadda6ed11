package cacheaside

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// BatchLoader reads many values, under their keys; a key that is missing in its map does not exist. For the rest it is
// like a [Loader].
type BatchLoader[T any] func(ctx context.Context, keys []string) (map[string]T, error)

// GetMany is Get for many keys at once, which may repeat. The map has no entry for a key that does not exist, neither in
// Redis nor for load. A nil load is the view's: see [LoadMany].
//
// It takes one round trip for the reads, and if some miss one for their leases, one call of load and one round trip for
// the fills. Keys that others are loading are waited for and not loaded. A key that is deleted meanwhile is not stored;
// the others are. If a load fails GetMany returns its error beside the values that it has.
func (v *View[T]) GetMany(ctx context.Context, keys []string, load BatchLoader[T]) (map[string]T, error) {
	if load == nil {
		load = v.loadMany
	}
	switch {
	case v.err != nil:
		return nil, v.err
	case load == nil:
		return nil, errNoLoader
	case ctx.Err() != nil:
		return nil, fmt.Errorf("cacheaside: get: %w", ctx.Err())
	}
	m := &many[T]{v: v, started: time.Now(), found: make(map[string]T, len(keys))}
	m.look(ctx, distinctKeys(keys), load)
	m.depart(ctx, load)
	return m.found, m.collect(ctx, load)
}

// many is one GetMany under way.
type many[T any] struct {
	v       *View[T]
	started time.Time
	found   map[string]T
	lacking []*lacking
	err     error
}

// lacking is a key that the first look did not answer.
type lacking struct {
	key string
	at  look
	w   *waiter
	f   *flight
}

func distinctKeys(keys []string) []string {
	seen, distinct := make(map[string]bool, len(keys)), make([]string, 0, len(keys))
	for _, key := range keys {
		if !seen[key] {
			seen[key] = true
			distinct = append(distinct, key)
		}
	}
	return distinct
}

// look reads all keys in one round trip.
func (m *many[T]) look(ctx context.Context, keys []string, load BatchLoader[T]) {
	if len(keys) == 0 {
		return
	}
	ops := make([]*op, len(keys))
	for i, key := range keys {
		ops[i] = m.v.c.command(ctx, stepGet, key, false, "get", key)
	}
	m.v.c.exec(ctx, ops)
	for i, key := range keys {
		at := lookOf(ops[i])
		if at.raw == nil || !m.hit(ctx, key, at.raw, load) {
			m.lacking = append(m.lacking, &lacking{key: key, at: at})
		}
	}
}

func (m *many[T]) hit(ctx context.Context, key string, raw []byte, load BatchLoader[T]) bool {
	value, verdict, err := m.v.read(raw, m.started)
	if !verdict.usable() {
		return false
	}
	kind := EventHit
	switch {
	case err != nil:
		kind = EventHitAbsent
	case verdict == verdictDue:
		kind = EventStale
		m.v.c.refresh(ctx, key, raw, m.v.sourceMany(ctx, load))
	}
	if err == nil {
		m.found[key] = value
	}
	m.v.c.opts.Observer.Observe(Event{Kind: kind, Key: key, Took: time.Since(m.started)})
	return true
}

// depart joins the flights of what was missed, and begins those that nobody flies, all in one.
func (m *many[T]) depart(ctx context.Context, load BatchLoader[T]) {
	src := m.v.sourceMany(ctx, load)
	var mine []*search
	for _, k := range m.lacking {
		var first bool
		k.w = newWaiter(src)
		if k.f, first = m.v.c.flights.join(k.key, k.w); first {
			mine = append(mine, m.v.c.newSearch(k.f, k.at))
		}
	}
	if len(mine) > 0 {
		m.v.c.start(ctx, mine)
	}
}

// collect waits for what was missed.
func (m *many[T]) collect(ctx context.Context, load BatchLoader[T]) error {
	var unread []*lacking
	for i, k := range m.lacking {
		o, err := k.f.await(ctx, k.w)
		if err != nil {
			for _, rest := range m.lacking[i+1:] {
				rest.f.leave(rest.w)
			}
			return fmt.Errorf("cacheaside: get: %w", err)
		}
		if !m.add(k, o) {
			unread = append(unread, k)
		}
	}
	return m.again(ctx, unread, load)
}

// again replaces what another kind of view loaded.
func (m *many[T]) again(ctx context.Context, unread []*lacking, load BatchLoader[T]) error {
	src := m.v.sourceMany(ctx, load)
	searches := make([]*search, len(unread))
	for i, k := range unread {
		k.w = newWaiter(src)
		k.f = m.v.c.flights.alone(k.key, k.w)
		searches[i] = m.v.c.newSearch(k.f, look{unknown: true})
	}
	if len(searches) > 0 {
		m.v.c.start(ctx, searches)
	}
	for _, k := range unread {
		o, err := k.f.await(ctx, k.w)
		if err != nil {
			return fmt.Errorf("cacheaside: get: %w", err)
		}
		m.add(k, o)
	}
	return m.err
}

func (m *many[T]) add(k *lacking, o outcome) bool {
	value, err, ok := m.v.arrive(k.key, k.at, o, m.started)
	switch {
	case !ok:
	case err == nil:
		m.found[k.key] = value
	case m.err == nil && !errors.Is(err, ErrNotFound):
		m.err = err
	}
	return ok
}

// sourceMany loads with a loader of many keys.
func (v *View[T]) sourceMany(ctx context.Context, load BatchLoader[T]) *source {
	ctx = context.WithoutCancel(ctx)
	return &source{policy: &v.policy, inspect: v.inspect, load: func(keys []string) map[string]loaded {
		ctx, cancel := context.WithTimeout(ctx, v.policy.LoadTimeout)
		defer cancel()
		values, err := call(ctx, func(ctx context.Context) (map[string]T, error) { return load(ctx, keys) })
		results := make(map[string]loaded, len(keys))
		for _, key := range keys {
			value, ok := values[key]
			switch {
			case err != nil:
				results[key] = loaded{err: err}
			case !ok:
				results[key] = loaded{err: ErrNotFound}
			default:
				results[key] = v.loaded(value, nil)
			}
		}
		return results
	}}
}
