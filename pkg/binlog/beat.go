package binlog

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// beat is how long the Sink goes without a call: less than the second that it
// asks for, so that a promotion that a Sentinel tells of late is still noticed
// within two.
const beat = 400 * time.Millisecond

// beating does what may take long beside calls of the Sink, which would
// otherwise not notice that its cache has gone back in time. abort has to make
// do return; it is called when the Sink fails.
func (s *Source) beating(ctx context.Context, abort func(), do func() error) error {
	var result error
	done := make(chan struct{})
	go func() {
		defer close(done)
		result = do()
	}()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return result
		case <-tick.C:
			if err := s.touch(ctx); err != nil {
				abort()
				<-done
				return err
			}
		}
	}
}

// pause waits before the next attempt.
func (s *Source) pause(ctx context.Context, duration time.Duration) error {
	return s.beating(ctx, func() {}, func() error {
		timer := time.NewTimer(duration)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		}
	})
}

// touch lets the Sink look whether its cache is still the one it wrote to.
func (s *Source) touch(ctx context.Context) error {
	if err := s.cfg.Sink.Apply(ctx, invalidation.Batch{}); err != nil {
		return sinkError{fmt.Errorf("heartbeat: %w", err)}
	}
	return nil
}
