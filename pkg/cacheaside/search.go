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

// search is a flight's way to a value, to a lease, or to neither.
type search struct {
	c    *Client
	key  string
	f    *flight // nil: a refresh, which nobody waits for
	src  *source // the first waiter's
	till time.Time

	at    look
	asked bool   // at answers a command of this flight, and not only its first read's
	mark  uint64 // the waiters below it came before that command was sent
	why   error  // the last reason why the entry could not be used

	over     bool   // of a refresh: it was done or refused
	held     []byte // what the entry begins with while this search may fill it; nil: it may not
	released []byte // the header that gives a claimed entry back; nil: held is a lease
	mine     []lease
	tries    int // of a lease, in a row
	pause    time.Duration
}

// look is what Redis said about the key.
type look struct {
	raw     []byte
	absent  bool
	unknown bool // look again
	shared  bool // others have raw too
	err     error
}

// action is what a search does next.
type action int

const (
	actAsk  action = iota // send a command
	actWait               // another loads
	actLoad               // load, and fill if something is held
	actDone               // the value was found
	actEnd                // nobody waits any more
)

func (c *Client) newSearch(f *flight, at look) *search {
	return &search{c: c, key: f.key, f: f, at: at}
}

// decide says what to do next about what was seen.
func (s *search) decide() action {
	if s.isMine(s.at.raw) {
		s.held = s.at.raw
	}
	if !s.adopt() {
		return actEnd
	}
	if s.held != nil {
		return actLoad
	}
	if s.at.unknown || s.f == nil {
		return actAsk
	}
	if s.at.err != nil && !isWrongType(s.at.err) {
		s.why = s.at.err
		return actLoad
	}
	v, why := s.src.inspect(s.at.raw)
	if why != nil {
		s.why = why
	}
	switch {
	case s.asked && v.usable():
		return actDone
	case s.asked && !time.Now().Before(s.till):
		s.why = ErrMaxWait
		return actLoad
	case v == verdictLease, v == verdictClaimed:
		return actWait
	}
	return actAsk
}

// adopt makes the first waiter's loader and patience this search's.
func (s *search) adopt() bool {
	if s.f == nil {
		return !s.over
	}
	w := s.f.first()
	if w == nil {
		return false
	}
	s.src, s.till = w.src, w.started.Add(s.c.opts.MaxWait)
	return true
}

// again starts over for the waiters that could not have the result.
func (s *search) again() {
	*s = search{c: s.c, key: s.key, f: s.f, at: look{unknown: true}, mine: s.mine}
}

// wait pauses for a growing time that differs between readers, so that they don't all look at once.
func (s *search) wait(ctx context.Context) {
	s.c.hooks.at(ctx, stepWait, s.key)
	s.pause = min(max(2*s.pause, firstPause), longestPause)
	jittered := s.pause/2 + rand.N(s.pause) //nolint:gosec // spreads load, guards nothing
	timer := time.NewTimer(min(jittered, max(time.Until(s.till), 0)))
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

// fly brings every search to its end, all of them together: each step is one round trip.
func (c *Client) fly(ctx context.Context, all []*search) {
	for len(all) > 0 {
		todo := map[action][]*search{}
		for _, s := range all {
			act := s.decide()
			todo[act] = append(todo[act], s)
		}
		c.release(ctx, holding(todo[actEnd]))
		var rest []*search
		for _, s := range todo[actDone] {
			if s.f.settle(outcome{entry: s.at.raw, found: true}, s.mark, nil) > 0 {
				s.again()
				rest = append(rest, s)
			}
		}
		switch {
		case len(todo[actAsk]) > 0:
			c.ask(ctx, todo[actAsk])
			rest = append(rest, todo[actAsk]...)
			rest = append(rest, todo[actLoad]...)
		case len(todo[actLoad]) > 0:
			rest = append(rest, c.loadAll(ctx, todo[actLoad])...)
		case len(todo[actWait]) > 0:
			pauseAll(ctx, todo[actWait])
		}
		all = append(rest, todo[actWait]...)
	}
}

// pauseAll waits as long as one search does, and lets all of them look again.
func pauseAll(ctx context.Context, waiting []*search) {
	waiting[0].wait(ctx)
	for _, s := range waiting {
		s.at = look{unknown: true}
		s.pause = waiting[0].pause
	}
}

func holding(all []*search) (held []*search) {
	for _, s := range all {
		if s.held != nil {
			held = append(held, s)
		}
	}
	return held
}
