package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	// shortestPause is how far apart two starts of a source are at least.
	shortestPause = 100 * time.Millisecond
	longestPause  = 5 * time.Second
	// steadyAfter is how long a source has to run until its next failure
	// counts as the first one.
	steadyAfter = 30 * time.Second
)

// errReturned: a part ended without being told to and without a reason.
var errReturned = errors.New("stopped without an error")

// part is a Source, or a Sink that has to run.
type part interface {
	Run(ctx context.Context) error
}

// assembly is what one attempt at a source consists of: new parts every time,
// so that nothing is left over from what failed.
type assembly struct {
	parts []part
	close func() error
}

// supervisor keeps one source running.
type supervisor struct {
	watch    watch
	assemble func() (assembly, error)
}

// run starts the source, and starts it again whenever it ends. It returns when
// ctx is done, or an error that wraps invalidation.ErrFatal.
func (s supervisor) run(ctx context.Context) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = shortestPause, longestPause
	again := 0
	for {
		started := time.Now()
		err := s.attempt(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, invalidation.ErrFatal) {
			return err
		}
		s.watch.stopped(err)
		ran := time.Since(started)
		if ran >= steadyAfter {
			pauses.Reset()
			again = 0
		}
		pause := pauses.NextBackOff()
		if again++; again == 1 && errors.Is(err, invalidation.ErrResume) {
			pause = shortestPause - ran // a replay can begin at once
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// attempt runs all parts until one of them ends, stops the others, and returns
// when none is left. The error is the one that says most.
func (s supervisor) attempt(ctx context.Context) error {
	built, err := s.assemble()
	if err != nil {
		return invalidation.Fatal(err)
	}
	defer func() { _ = built.close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(built.parts))
	for _, p := range built.parts {
		go func() { ended <- p.Run(ctx) }()
	}
	first := <-ended
	cancel()
	for range built.parts[1:] {
		if err := <-ended; errors.Is(err, invalidation.ErrFatal) {
			first = err
		}
	}
	if first == nil {
		return errReturned
	}
	return first
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
