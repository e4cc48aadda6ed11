package redissink

import (
	"sync"
	"time"
)

// shardState may be read while a pipeline is under way.
type shardState struct {
	mu         sync.Mutex
	failing    time.Time // since when nothing succeeds; zero: it works
	answered   time.Time // when a pipeline last succeeded
	behind     bool      // left behind: it gets no deletes until it is back
	remembered []string  // the positions that it is known to store
}

func (s *shardState) remember(positions ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remembered = positions
}

// known returns the positions that it is known to store, "" where that is not
// known.
func (s *shardState) known() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.remembered) == 0 {
		return []string{""}
	}
	return s.remembered
}

// works notes a success; it reports whether something failed before.
func (s *shardState) works() (healed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	healed = !s.failing.IsZero()
	s.failing, s.answered = time.Time{}, time.Now()
	return healed
}

// fails notes the failure of what was begun at the given time, and returns
// since when nothing succeeds.
func (s *shardState) fails(begun time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing.IsZero() {
		s.failing = begun
	}
	return s.failing
}

func (s *shardState) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = true
}

func (s *shardState) isBehind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behind
}

// since returns since when nothing succeeds; zero: it works.
func (s *shardState) since() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing
}

// worked reports whether the last pipeline succeeded, not before the given
// time.
func (s *shardState) worked(since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.behind && s.failing.IsZero() && s.answered.After(since)
}
