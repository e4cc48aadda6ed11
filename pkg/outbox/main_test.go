package outbox

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memorySink stores a position with the call after the one that brought it,
// as the Sink for Redis does.
type memorySink struct {
	mu       sync.Mutex
	stored   string
	applied  string
	keys     []string
	patterns []string
	more     chan struct{}
	fail     error
}

func newMemorySink() *memorySink { return &memorySink{more: make(chan struct{}, 1)} }

func (s *memorySink) Positions(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = s.stored
	return []string{s.stored}, nil
}

func (s *memorySink) Stored() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []string{s.stored}
}

func (s *memorySink) Apply(_ context.Context, b invalidation.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.stored = s.applied
	s.keys = append(s.keys, b.Keys...)
	s.patterns = append(s.patterns, b.Patterns...)
	if b.Position != "" {
		s.applied = b.Position
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
	return nil
}

// await looks after every call of the sink whether the condition holds.
func (s *memorySink) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		done := holds()
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-s.more:
		case <-deadline.C:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
