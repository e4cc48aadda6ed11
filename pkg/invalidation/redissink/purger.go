package redissink

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// purge is one deletion by pattern that was asked for.
type purge struct {
	pattern string
	byHand  bool // nobody but an operator asked for it; it does not change once it runs
	done    atomic.Bool
}

// purger makes one purge after the other, beside the deletes. There is at most
// one running and one waiting for each pattern.
type purger struct {
	sink *Sink
	wake chan struct{}

	mu      sync.Mutex
	queue   []*purge           // the first runs
	cancel  context.CancelFunc // of the one that runs; nil: none does
	stopped chan struct{}      // closed when the one that runs has ended
}

func newPurger(s *Sink) *purger { return &purger{sink: s, wake: make(chan struct{}, 1)} }

// Purge has every key deleted that matches one of the globs, beside what Apply
// deletes, for an operator. It returns when that is asked for; PurgeDone says
// that it is done. Positions drops it.
//
// Unlike the Patterns of a Batch it holds no position up, and a key that Redis
// refuses to delete is not parked: PurgeDone tells that it is left.
func (s *Sink) Purge(ctx context.Context, patterns ...string) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	if err := s.ready(); err != nil {
		return err
	}
	s.purger.request(patterns, true)
	return nil
}

// request returns the purges that delete everything which is there now and
// matches: one that waits for its turn will, one that runs may have passed it.
func (p *purger) request(patterns []string, byHand bool) []*purge {
	if len(patterns) == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := p.queue
	if p.cancel != nil {
		waiting = p.queue[1:]
	}
	var requested []*purge
	for _, pattern := range patterns {
		at := slices.IndexFunc(waiting, func(w *purge) bool { return w.pattern == pattern })
		if at >= 0 {
			waiting[at].byHand = waiting[at].byHand && byHand
			requested = append(requested, waiting[at])
			continue
		}
		w := &purge{pattern: pattern, byHand: byHand}
		p.queue, waiting, requested = append(p.queue, w), append(waiting, w), append(requested, w)
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return requested
}

// reset drops all purges: whoever needs them asks again.
func (p *purger) reset(ctx context.Context) error {
	p.mu.Lock()
	p.queue = nil
	stopped := p.stopped
	if p.cancel != nil {
		p.cancel()
	}
	p.mu.Unlock()
	if stopped == nil {
		return nil
	}
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *purger) run(ctx context.Context) error {
	for {
		one, running, end := p.next(ctx)
		if one == nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-p.wake:
			}
			continue
		}
		err := p.sink.purge(running, one)
		if err == nil {
			one.done.Store(true)
			err = p.sink.save(running)
		}
		dropped := running.Err() != nil
		end()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, invalidation.ErrFatal):
			return err
		case err != nil && !dropped:
			_ = p.sink.stop(err)
			if err := p.sink.untilPositions(ctx); err != nil {
				return err
			}
		}
	}
}

// next returns the purge to make and what to call when it has ended.
func (p *purger) next(ctx context.Context) (one *purge, running context.Context, end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return nil, nil, nil
	}
	one = p.queue[0]
	running, p.cancel = context.WithCancel(ctx)
	cancel, stopped := p.cancel, make(chan struct{})
	p.stopped = stopped
	return one, running, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.queue) > 0 && p.queue[0] == one {
			p.queue = p.queue[1:]
		}
		cancel()
		p.cancel, p.stopped = nil, nil
		close(stopped)
	}
}
