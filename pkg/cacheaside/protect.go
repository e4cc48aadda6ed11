package cacheaside

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

var (
	// ErrTooManyLoads is returned by Get when [Options.MaxLoads] loads were running for [Options.MaxWait].
	ErrTooManyLoads = errors.New("cacheaside: too many loads")

	// ErrLoaderOpen is returned by Get while loads are refused because the last ones failed: see [Policy.BreakAfter].
	ErrLoaderOpen = errors.New("cacheaside: the loader failed too often and is left alone")

	// ErrRedisOpen is the [Event.Err] of loads that did not ask Redis because it failed: see [Options.BreakAfter].
	ErrRedisOpen = errors.New("cacheaside: Redis failed too often and is left alone")
)

// breaker opens after some failures in a row. As long as nothing fails it costs one atomic load.
type breaker struct {
	circuit circuitbreaker.CircuitBreaker[any] // nil: never opens
	failing atomic.Bool                        // there may be failures to forget
}

func newBreaker(after int, pause time.Duration, changed func(open bool)) *breaker {
	b := &breaker{}
	if after > 0 {
		b.circuit = circuitbreaker.NewBuilder[any]().
			WithFailureThreshold(uint(after)).
			WithSuccessThreshold(1).
			WithDelay(pause).
			OnOpen(func(circuitbreaker.StateChangedEvent) { changed(true) }).
			OnClose(func(circuitbreaker.StateChangedEvent) { changed(false) }).
			Build()
	}
	return b
}

// allow reports whether to try; if so, record must follow.
func (b *breaker) allow() bool {
	return !b.failing.Load() || b.circuit.TryAcquirePermit()
}

// isOpen reports whether not even a trial is due.
func (b *breaker) isOpen() bool {
	return b.failing.Load() && b.circuit.IsOpen() && b.circuit.RemainingDelay() > 0
}

func (b *breaker) record(failed bool) {
	switch {
	case b.circuit == nil:
	case failed:
		b.failing.Store(true)
		b.circuit.RecordFailure()
	case b.failing.Load():
		b.circuit.RecordSuccess()
		if b.circuit.IsClosed() {
			b.failing.Store(false)
		}
	}
}

// redisBreaker keeps reads from waiting for a Redis that does not answer. Deletes are always tried.
type redisBreaker struct{ *breaker }

// record takes an answer for a success, whatever it says.
func (b redisBreaker) record(err error) { b.breaker.record(err != nil && !isReply(err)) }

// admit waits for a place among the loads; unless it fails, the place has to be given back.
func (c *Client) admit(ctx context.Context, p *policy) error {
	if p.loader.isOpen() {
		return ErrLoaderOpen
	}
	if c.loads.AcquirePermitWithMaxWait(ctx, c.opts.MaxWait) != nil {
		return ErrTooManyLoads
	}
	if !p.loader.allow() {
		c.loads.ReleasePermit()
		return ErrLoaderOpen
	}
	return nil
}

// record tells the loader's breaker how a load went. That there is nothing is no failure.
func (p *policy) record(results map[string]loaded) {
	failed := false
	for _, r := range results {
		failed = failed || r.err != nil && !errors.Is(r.err, ErrNotFound)
	}
	p.loader.record(failed)
}
