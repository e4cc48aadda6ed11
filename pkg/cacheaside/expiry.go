package cacheaside

import (
	"context"
	"math/rand/v2"
	"time"
)

// retryRefresh is how long a value whose refresh failed is left alone.
const retryRefresh = time.Second

// verdict says what a read may do with what it found.
type verdict int

const (
	verdictForeign verdict = iota // replace it by a lease
	verdictLease                  // another loads
	verdictClaimed                // too old, and another loads
	verdictExpired                // too old, but good enough if the load fails
	verdictDue                    // good, and somebody should refresh it
	verdictFresh
)

func (v verdict) usable() bool { return v >= verdictDue }

// judge says how old a value may be.
func (p *policy) judge(h header, now time.Time) verdict {
	if h.flags&flagAbsent != 0 {
		return verdictFresh // until Redis drops it
	}
	if p.StaleIfError > 0 && now.Sub(h.loadedAt) >= p.TTL {
		if h.flags&flagClaimed != 0 && now.Before(h.softExpiry) {
			return verdictClaimed
		}
		return verdictExpired
	}
	if p.refreshes() && !h.softExpiry.IsZero() && !now.Add(p.early(h.loadCost)).Before(h.softExpiry) {
		return verdictDue
	}
	return verdictFresh
}

func (p *policy) refreshes() bool { return p.SoftTTL > 0 || p.XFetch > 0 }

// early is by how much this read refreshes before the soft expiry: XFetch, of Vattani, Chierichetti and Lowenstein,
// "Optimal Probabilistic Cache Stampede Prevention" (VLDB 2015).
func (p *policy) early(cost time.Duration) time.Duration {
	if p.XFetch == 0 {
		return 0
	}
	return time.Duration(float64(cost) * p.XFetch * rand.ExpFloat64()) //nolint:gosec // spreads load, guards nothing
}

// stale reports whether a value may be returned because its load failed.
func (p *policy) stale(h header, now time.Time) bool {
	return now.Sub(h.loadedAt) < p.TTL+p.StaleIfError
}

// entry is a value as it is stored.
func (p *policy) entry(payload []byte, began time.Time, cost time.Duration) []byte {
	h := header{format: p.format, fill: newFillID(), loadedAt: began, loadCost: cost}
	switch {
	case p.SoftTTL > 0:
		h.softExpiry = began.Add(p.jittered(p.SoftTTL))
	case p.XFetch > 0:
		h.softExpiry = began.Add(p.TTL)
	}
	return appendValue(make([]byte, 0, headerLen+len(payload)), h, payload)
}

// absence is the entry that says that there is nothing.
func (p *policy) absence(began time.Time, cost time.Duration) []byte {
	return appendValue(nil, header{format: p.format, fill: newFillID(), flags: flagAbsent, loadedAt: began, loadCost: cost}, nil)
}

// lifetime is how long Redis keeps an entry; 0 is for ever.
func (p *policy) lifetime(absent bool) time.Duration {
	switch {
	case absent:
		return max(p.jittered(p.NegativeTTL), time.Millisecond)
	case p.NoTTL:
		return 0
	}
	return max(p.jittered(p.TTL)+p.StaleIfError, time.Millisecond)
}

// jittered shortens d, so that no entry outlives what the policy says.
func (p *policy) jittered(d time.Duration) time.Duration {
	return d - time.Duration(float64(d)*p.Jitter*rand.Float64()) //nolint:gosec // spreads load, guards nothing
}

// claimValue takes the right to replace the value that was seen: its header gets a new fill id and a soft expiry at
// which the claim ends. The value and its time to live stay.
func (s *search) claimValue(ctx context.Context) *op {
	_, h, _ := parse(s.at.raw)
	claimed, released := h, h
	claimed.fill, claimed.flags = newFillID(), flagClaimed
	claimed.softExpiry = time.Now().Add(s.src.policy.LoadTimeout + s.c.opts.MaxWait)
	released.fill, released.flags = newFillID(), 0
	if s.src.policy.refreshes() {
		released.softExpiry = time.Now().Add(retryRefresh)
	}
	held := appendValue(nil, claimed, nil)
	o := s.c.fill.op(ctx, stepClaim, s.key, false, seen(s.at.raw), held, "keep")
	o.then = func(o *op) {
		switch {
		case o.yes():
			s.held, s.released = held, appendValue(nil, released, nil)
		case o.err != nil:
			s.at, s.over = look{err: o.err}, true
		default:
			s.at, s.over = look{unknown: true}, true
		}
	}
	return o
}

// refresh replaces a value that is due, in the background, unless somebody does already.
func (c *Client) refresh(ctx context.Context, key string, raw []byte, src *source) {
	if c.redis.isOpen() || !c.flights.beginRefresh(key) {
		return
	}
	ctx = context.WithoutCancel(ctx)
	c.flights.spawn(func() {
		defer c.flights.endRefresh(key)
		c.fly(ctx, []*search{{c: c, key: key, src: src, at: look{raw: raw}}})
	})
}
