package redissink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// watchEvery is how often the layout is asked for, and masters that were left
// behind are tried.
const watchEvery = 200 * time.Millisecond

// What events call the layout, and the slots that no master serves.
const (
	partLayout = invalidation.PartCache + " layout"
	partSlots  = invalidation.PartCache + " slots"
)

// watch keeps seen up to date.
func (s *Sink) watch(ctx context.Context) error {
	return every(ctx, watchEvery, func() error {
		if err := s.look(ctx); errors.Is(err, invalidation.ErrFatal) {
			return err
		}
		return nil
	})
}

// look asks for the layout once. It breaks what is under way to a master that
// was replaced, because a frozen one would hold it up until a timeout.
func (s *Sink) look(ctx context.Context) error {
	found, err := s.topology.ask(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.waiting(partLayout, err)
			s.asking.Store(true) // after it is told: a look that succeeds meanwhile would heal it first
		}
		return err
	}
	if s.asking.Swap(false) {
		s.working(partLayout)
	}
	s.tellUnserved(found.unserved())
	before := s.seen.Load()
	if found.keep(before); before != nil && before.equal(found) {
		return nil
	}
	s.seen.Store(found)
	for _, sh := range s.current() {
		if addr := sh.address(); !found.has(addr) {
			sh.renew(addr)
		}
	}
	s.lease.follow(ctx)
	s.announce()
	return nil
}

// tellUnserved says which slots no master serves, as far as that concerns the
// one that leads.
func (s *Sink) tellUnserved(unserved []int) {
	switch {
	case len(unserved) > 0 && s.Leads():
		s.waiting(partSlots, errUnserved(unserved...))
		s.gaps.Store(true)
	case s.gaps.Swap(false):
		s.working(partSlots)
	}
}

func errUnserved(unserved ...int) error {
	return fmt.Errorf("the slots %s are served by no master: bring back the one that had them, or give them to another (redis-cli --cluster fix)", ranges(unserved))
}

// refresh asks for the layout after keys were sent to the wrong master, with a
// pause where that was of no use before.
func (s *Sink) refresh(ctx context.Context, round int) error {
	if err := s.look(ctx); errors.Is(err, invalidation.ErrFatal) {
		return err
	}
	return sleep(ctx, min(time.Duration(round)*20*time.Millisecond, time.Second))
}

// changes is closed when the layout changes.
func (s *Sink) changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// announce wakes those who wait for a master that may have been replaced.
func (s *Sink) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// watchBehind looks whether masters that were left behind are back. The Source
// then begins at what they remember.
func (s *Sink) watchBehind(ctx context.Context) error {
	return every(ctx, watchEvery, func() error {
		seen := s.seen.Load()
		for _, sh := range s.current() {
			if seen == nil || !sh.state.isBehind() {
				continue
			}
			at := sh.at.Load()
			addr := seen.ownerOf(max(at.slot, 0))
			back := newShard(s.cfg, s.scripts, &s.earned, addr, *at)
			asked, cancel := context.WithTimeout(ctx, askTimeout)
			_, err := back.read(asked)
			cancel()
			back.close()
			if err == nil {
				s.working(s.partOf(sh))
				_ = s.stop(fmt.Errorf("the master %s, which was left behind, is back: %w", addr, invalidation.ErrResume))
			}
		}
		return nil
	})
}

// every calls do again and again until it fails or ctx is done.
func every(ctx context.Context, pause time.Duration, do func() error) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := do(); err != nil {
			return err
		}
	}
}
