package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// Source relays one outbox to one Sink.
type Source struct {
	name      string
	sink      invalidation.Sink
	purge     []string
	onLost    invalidation.OnLost
	fromNow   bool
	poll      time.Duration
	retention time.Duration
	observer  invalidation.Observer
	log       log
	applied   atomic.Pointer[string] // how far Run came, as a position; nil before its first step
}

// log is an outbox in one kind of database.
type log interface {
	questioner
	// follow reads from the oldest of the positions on and passes what it
	// finds to emit, until ctx is done, emit fails or the database does.
	follow(ctx context.Context, positions []string, emit func(step) error) error
	// prune removes rows that every stored position has passed and that are
	// older than the retention, and returns how many. There is at least one
	// position, and none is "".
	prune(ctx context.Context, stored []string) (int, error)
}

// step is one thing for the Sink to do.
type step struct {
	keys, patterns  []string
	position        string    // what may be remembered once all steps up to this one are done
	at              string    // how far this is, as a position, durable or not
	idle            bool      // a look at the log found nothing more
	rows, coalesced int       // rows that were read, and keys that were dropped as duplicates
	oldest, newest  time.Time // when the rows were written; zero: there was none
	text            string    // how far this is, for people
}

// errLost stops a reader whose rows are gone; the next one finds out why.
var errLost = errors.New("rows that were not read yet are gone from the outbox")

// Run relays until ctx is done, and returns its error then. It waits and
// retries for as long as the database can not be reached. It returns at once
// what the Sink's methods return, and, with an error that wraps
// invalidation.ErrFatal, what only a person can heal. Run it again after
// invalidation.ErrResume. At most one Run at a time.
func (s *Source) Run(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 50*time.Millisecond, 2*time.Second
	for {
		started := time.Now()
		relay := &relay{source: s}
		fault, err := relay.run(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("outbox %s: %w", s.name, err)
		case errors.Is(fault, invalidation.ErrFatal):
			return fmt.Errorf("outbox %s: %w", s.name, fault)
		}
		s.observe(invalidation.Event{Kind: invalidation.Waiting, Err: fmt.Errorf("outbox %s: %w", s.name, fault)})
		if time.Since(started) > 10*time.Second {
			pause.Reset()
		}
		if err := relay.idle(ctx, pause.NextBackOff()); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("outbox %s: %w", s.name, err)
		}
	}
}

// lost announces that the position can not be used, or fails where that is
// what the configuration says.
func (s *Source) lost(reason string) error {
	if s.onLost == invalidation.FailOnLost {
		return invalidation.Fatal(fmt.Errorf("%w: %s: set on_lost_position: purge, for one start at the least", invalidation.ErrLost, reason))
	}
	s.observe(invalidation.Event{Kind: invalidation.Lost, Text: reason + ": " + s.begins()})
	return nil
}

// begins says what a start without a position does.
func (s *Source) begins() string {
	return "every key that matches " + strings.Join(s.purge, " ") + " is deleted, and every row that is still in the outbox is read again"
}

func (s *Source) observe(e invalidation.Event) {
	e.Part = invalidation.PartSource
	s.observer.Observe(e)
}
