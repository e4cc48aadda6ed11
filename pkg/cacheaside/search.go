package cacheaside

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// ErrMaxWait is the [Event.Err] of an [EventNotFilled] whose read waited for another's load for [Options.MaxWait].
var ErrMaxWait = errors.New("cacheaside: another's load took longer than Options.MaxWait")

var (
	errFormat = errors.New("cacheaside: the entry has an unknown format")
	errType   = errors.New("cacheaside: the key holds a value that is not a string")
)

const (
	firstPause   = 2 * time.Millisecond
	longestPause = 100 * time.Millisecond
)

// found is how a search ended.
type found int

const (
	foundNothing found = iota // load without filling; search.why says why
	foundValue
	foundLease // load, and fill what still begins with search.held
)

// search is one read's way to a value, to a lease, or to neither.
type search struct {
	c       *Client
	key     string
	started time.Time
	why     error // the last reason why the entry could not be used

	held  lease
	mine  []lease // every lease this read sent: one whose reply was lost may turn up
	pause time.Duration
}

// look is what Redis said about the key.
type look struct {
	raw    []byte
	absent bool
	err    error
}

// run searches from what a first look at the key showed. The error is ctx's.
func (s *search) run(ctx context.Context, at look, usable func(raw []byte) bool) (found, error) {
	waiting, cancel := context.WithTimeout(ctx, s.c.opts.MaxWait)
	defer cancel()
	for turn := 0; ; turn++ {
		switch {
		case ctx.Err() != nil:
			return foundNothing, ctx.Err()
		case at.err != nil && !isWrongType(at.err):
			s.why = at.err
			return foundNothing, nil
		case turn > 0 && usable(at.raw):
			return foundValue, nil
		case s.isMine(at.raw):
			s.held = lease(at.raw)
			return foundLease, nil
		case turn > 0 && waiting.Err() != nil:
			s.why = ErrMaxWait
			return foundNothing, nil
		}
		at = s.next(ctx, waiting, at)
	}
}

// next acts on what was seen and looks again. Whoever gets a lease sees it as the entry.
func (s *search) next(ctx, waiting context.Context, at look) look {
	switch kind, _, _ := parse(at.raw); {
	case isWrongType(at.err):
		s.why = errType
		return s.take(ctx, func(ctx context.Context, l lease) (bool, error) {
			return s.c.claim.run(ctx, s.c.reads, true, s.key, l[:], s.c.opts.Lease.Milliseconds())
		})
	case at.absent:
		return s.lease(ctx)
	case kind == kindLease:
		s.wait(waiting)
		return s.get(ctx)
	default:
		return s.take(ctx, func(ctx context.Context, l lease) (bool, error) {
			return s.c.fill.run(ctx, s.c.reads, true, s.key, seen(at.raw), l[:], s.c.opts.Lease.Milliseconds())
		})
	}
}

// wait pauses for a growing time that differs between readers, so that they don't all look at once.
func (s *search) wait(ctx context.Context) {
	s.c.hooks.at(ctx, stepWait, s.key)
	s.pause = min(max(2*s.pause, firstPause), longestPause)
	jittered := s.pause/2 + rand.N(s.pause) //nolint:gosec // spreads load, guards nothing
	timer := time.NewTimer(jittered)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (s *search) isMine(raw []byte) bool {
	return len(raw) == leaseLen && slices.Contains(s.mine, lease(raw))
}

func (s *search) newLease() lease {
	l := newLease()
	s.mine = append(s.mine, l)
	return l
}
