package delaydelete

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// defaultMaxPending is some 100 MB of keys of the usual length.
const defaultMaxPending = 1_000_000

// heartbeat is how often the next Sink hears from an Apply that is blocked.
const heartbeat = time.Second

// Config describes a Sink. Next and Delay are required.
type Config struct {
	// Next is the Sink that deletes. Its methods are called from the
	// goroutines of Apply and of Run, at the same time.
	Next invalidation.Sink
	// Delay is the time from the answer to the first delete until the
	// second. It has to be positive.
	Delay time.Duration
	// MaxPending is how many keys may wait for their second delete before
	// Apply blocks; one batch may exceed it. Default 1,000,000.
	MaxPending int
	// Observer hears of an Apply that blocks. Default: nobody.
	Observer invalidation.Observer
}

// Sink deletes everything twice through the next Sink. It works only while
// Run runs. Apply and Positions are to be called by one goroutine, the
// Source's, as [invalidation.Sink] has it.
type Sink struct {
	cfg   Config
	queue *queue
	full  bool // the Observer knows that too much is queued
}

// New returns a Sink and starts nothing.
func New(cfg Config) (*Sink, error) {
	var errs []error
	if cfg.Next == nil {
		errs = append(errs, errors.New("delaydelete: Config.Next is nil"))
	}
	if cfg.Delay <= 0 {
		errs = append(errs, fmt.Errorf("delaydelete: Config.Delay is %v: it has to be positive", cfg.Delay))
	}
	if cfg.MaxPending < 0 {
		errs = append(errs, fmt.Errorf("delaydelete: Config.MaxPending is %d: it has to be positive, or 0 for the default", cfg.MaxPending))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.MaxPending == 0 {
		cfg.MaxPending = defaultMaxPending
	}
	if cfg.Observer == nil {
		cfg.Observer = invalidation.NoObserver()
	}
	return &Sink{cfg: cfg, queue: newQueue()}, nil
}

// Run makes the second deletes until ctx is done, and returns its error, or
// until the next Sink returns an error, and returns that. What is still
// queued at the end is dropped: its position was not passed on, so it is
// read again.
func (s *Sink) Run(ctx context.Context) error {
	for {
		batch, wait := s.queue.take(time.Now())
		if wait != nil {
			if err := wait(ctx); err != nil {
				return err
			}
			continue
		}
		err := s.cfg.Next.Apply(ctx, batch)
		s.queue.done()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("second delete: %w", err)
		}
	}
}

// Positions implements invalidation.Sink. It drops what is queued, because
// the Source that asks reads all of it again. A second delete on its way is
// waited for: coming later it would bring a position that lies ahead of the
// one returned here.
func (s *Sink) Positions(ctx context.Context) ([]string, error) {
	if err := s.queue.drop(ctx); err != nil {
		return nil, err
	}
	return s.cfg.Next.Positions(ctx)
}

// Stored returns what the masters of the next Sink's cache are known to
// remember, which lies behind what was applied by the delay at least. It is
// empty where the next Sink does not tell.
func (s *Sink) Stored() []string {
	if next, ok := s.cfg.Next.(interface{ Stored() []string }); ok {
		return next.Stored()
	}
	return nil
}

// Apply implements invalidation.Sink. It returns when the first delete was
// answered and the second is queued. While too much is queued it blocks, and
// sends the next Sink a heartbeat every second.
func (s *Sink) Apply(ctx context.Context, b invalidation.Batch) error {
	if s.queue.idle() && isHeartbeat(b) {
		return s.cfg.Next.Apply(ctx, b)
	}
	now := b
	now.Position = "" // position after effect: the second delete is part of it
	if err := s.cfg.Next.Apply(ctx, now); err != nil {
		return err
	}
	if isHeartbeat(b) {
		s.queue.follow(b.Position)
		return nil
	}
	if err := s.waitForRoom(ctx); err != nil {
		return err
	}
	s.queue.put(b, time.Now().Add(s.cfg.Delay))
	return nil
}

func (s *Sink) waitForRoom(ctx context.Context) error {
	keys, room := s.queue.pending(s.cfg.MaxPending)
	s.note(keys)
	if room == nil {
		return nil
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for room != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-room:
		case <-beat.C:
			if err := s.cfg.Next.Apply(ctx, invalidation.Batch{}); err != nil {
				return err
			}
		}
		_, room = s.queue.pending(s.cfg.MaxPending)
	}
	return nil
}

// note tells the Observer once that the limit is reached, and again when it is
// reached after the half of it was gone.
func (s *Sink) note(keys int) {
	switch {
	case keys < s.cfg.MaxPending/2:
		s.full = false
	case keys >= s.cfg.MaxPending && !s.full:
		s.full = true
		s.cfg.Observer.Observe(invalidation.Event{
			Kind: invalidation.Noted, Part: invalidation.PartCache, Count: keys,
			Text: "too many keys wait for their second delete: reading the log pauses until some are deleted",
		})
	}
}

// isHeartbeat reports whether there is nothing to delete, twice or once.
func isHeartbeat(b invalidation.Batch) bool { return len(b.Keys) == 0 && len(b.Patterns) == 0 }
