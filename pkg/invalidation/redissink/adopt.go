package redissink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

var errAllMoving = errors.New("its slots are on their way to other masters: finish the migration")

// adopt follows the layout that was seen last. A master that took the place of
// another one is found out by the next compare-and-set; where slots moved, each
// master that serves some gets a position.
func (s *Sink) adopt(ctx context.Context) error {
	for {
		if resume := s.resume.Load(); resume != nil {
			return *resume
		}
		seen := s.seen.Load()
		if seen == nil || seen == s.layout.Load() {
			return nil
		}
		if err := s.adoptLayout(ctx, seen); !errors.Is(err, errMoved) {
			return err
		}
	}
}

func (s *Sink) adoptLayout(ctx context.Context, seen *layout) error {
	shards, moved, err := s.follow(seen)
	if err != nil {
		return err
	}
	for _, sh := range moved {
		if err := s.rekey(ctx, seen, sh); err != nil {
			return err
		}
		shards = append(shards, sh)
	}
	for _, addr := range seen.masters {
		if slices.ContainsFunc(shards, func(sh *shard) bool { return sh.address() == addr }) {
			continue
		}
		sh, err := s.establish(ctx, seen, addr)
		if err != nil {
			return err
		}
		shards = append(shards, sh)
	}
	s.replace(shards)
	s.layout.Store(seen)
	s.tidy()
	return nil
}

// follow tells the masters whose position is where it was, maybe on the replica
// that took their place, from those whose slot of the position moved away.
func (s *Sink) follow(seen *layout) (kept, moved []*shard, err error) {
	at := map[string]*shard{}
	for _, sh := range s.current() {
		addr := sh.address()
		owner := seen.ownerOf(max(sh.at.Load().slot, 0))
		if owner != addr && seen.has(addr) {
			moved = append(moved, sh)
			owner = addr
		} else {
			kept = append(kept, sh)
		}
		if at[owner] != nil {
			return nil, nil, fmt.Errorf("slots of several masters are at %s now: %w", owner, invalidation.ErrResume)
		}
		at[owner] = sh
	}
	for owner, sh := range at { // only now: what is left behind keeps its address until it is told apart
		if sh.address() != owner {
			s.reconnect(sh, owner)
		}
	}
	return kept, moved, nil
}

// reconnect goes to the master that took the place of another.
func (s *Sink) reconnect(sh *shard, addr string) {
	if sh.state.works() {
		s.working(s.partOf(sh))
	}
	sh.connect(addr)
}

// rekey gives a master whose position's slot went to another master a position
// in a slot of its own.
func (s *Sink) rekey(ctx context.Context, in *layout, sh *shard) error {
	slot := in.middle(sh.address())
	if slot < 0 {
		return fmt.Errorf("the position of %s has moved to another master: %w", sh.address(), invalidation.ErrResume)
	}
	for {
		from := *sh.at.Load()
		if in.ownerOf(from.slot) == sh.address() {
			return nil // a purge was faster
		}
		if err := sh.moveTo(ctx, from, s.placeIn(slot)); !errors.Is(err, errAgain) {
			return err
		}
	}
}

// leaveSlot gives a master whose position has gone ahead, in a slot that is on
// its way to another master, a position in a slot that stays.
func (s *Sink) leaveSlot(ctx context.Context, sh *shard, from place) error {
	to, ok := s.staying(ctx, sh)
	if !ok {
		return errAllMoving
	}
	return sh.moveTo(ctx, from, to)
}

// staying returns a place in a slot of a master that is not on its way
// elsewhere, and is not the one of its position.
func (s *Sink) staying(ctx context.Context, sh *shard) (place, bool) {
	leaving := map[int]bool{sh.at.Load().slot: true}
	state, _ := s.slotState(ctx, sh) // one that leaves after all is left again
	for _, field := range state.moving {
		number, _, _ := strings.Cut(strings.TrimPrefix(field, "["), "-")
		if slot, err := strconv.Atoi(number); err == nil {
			leaving[slot] = true
		}
	}
	for _, slot := range s.layout.Load().slotsOf(sh.address()) {
		if !leaving[slot] {
			return s.placeIn(slot), true
		}
	}
	return place{}, false
}

// establish makes the first position on a master that is new. What it has came
// from masters with a position of their own, and nothing was deleted on it yet;
// where nobody is known to have had its slots, what it has may be old. It fails
// with errMoved when the layout changed meanwhile.
func (s *Sink) establish(ctx context.Context, in *layout, addr string) (*shard, error) {
	before := s.layout.Load()
	if slices.ContainsFunc(in.slotsOf(addr), func(slot int) bool { return before.owner[slot] == "" }) {
		return nil, fmt.Errorf("the new master %s has slots that none had before: %w", addr, invalidation.ErrResume)
	}
	sh := newShard(s.cfg, s.scripts, &s.earned, addr, s.placeIn(in.middle(addr)))
	err := s.readNew(ctx, in, sh)
	switch {
	case errors.Is(err, errMoved):
		if sh.state.works() {
			s.working(s.partOf(sh)) // nobody waits for it any more
		}
		sh.close()
		return nil, err
	case err != nil:
		sh.close()
		return nil, fmt.Errorf("read the position of the new master %s: %w", addr, errors.Join(err, invalidation.ErrResume))
	case sh.last != "":
		sh.close()
		return nil, fmt.Errorf("the new master %s has a position: %w", addr, invalidation.ErrResume)
	}
	sh.own = s.ownOf(in.slotsOf(addr))
	return sh, nil
}

// readNew reads the position of a master that is new, and waits for one that
// does not answer at once: without its first position it would be purged.
func (s *Sink) readNew(ctx context.Context, in *layout, sh *shard) error {
	pause := newPause()
	for begun := time.Now(); ; {
		changes := s.changes()
		_, err := sh.read(ctx)
		switch {
		case err == nil:
			if sh.state.works() {
				s.working(s.partOf(sh))
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case s.seen.Load() != in:
			return errMoved
		case time.Since(begun) > patience:
			return err
		}
		sh.state.fails(begun)
		s.waiting(s.partOf(sh), fmt.Errorf("read the position of the new master: %w", err))
		if err := sleepUnless(ctx, pause.NextBackOff(), changes); err != nil {
			return err
		}
	}
}

// ownOf is what the masters have read that had these slots so far, "" where
// that differs.
func (s *Sink) ownOf(slots []int) string {
	own := map[string]bool{}
	before := s.layout.Load()
	for _, sh := range s.current() {
		if slices.ContainsFunc(slots, func(slot int) bool { return before.owner[slot] == sh.address() }) {
			sh.mu.Lock()
			own[sh.own] = true
			sh.mu.Unlock()
		}
	}
	if len(own) != 1 {
		return ""
	}
	for position := range own {
		return position
	}
	return ""
}

// tidy gives older positions that are to be removed to the masters that have
// them by now.
func (s *Sink) tidy() {
	in, shards := s.layout.Load(), s.current()
	for _, from := range shards {
		for _, key := range from.strayed(in) {
			for _, sh := range shards {
				if sh.address() == in.ownerOf(slotOf(key)) {
					sh.forget(key)
				}
			}
		}
	}
}
