package daemon

import (
	"context"
	"errors"
	"sync/atomic"
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
	// releaseWithin is how long a source that ends tries to give its lease
	// up. Where that fails, the lease expires.
	releaseWithin = time.Second
)

var (
	// errReturned: a part ended without being told to and without a reason.
	errReturned = errors.New("stopped without an error")
	// errReplaced is the cause of a stop after which this process starts the
	// same source again, and so keeps its lease.
	errReplaced = errors.New("replaced by a new configuration")
)

// part is a Source, or a Sink that has to run.
type part interface {
	Run(ctx context.Context) error
}

// assembly is what one attempt at a source consists of: new parts every time,
// so that nothing is left over from what failed.
type assembly struct {
	parts   []part
	reader  reader // what is read; nil in tests of the supervision alone
	cache   cache  // where it is deleted; nil in a dry run
	attempt int    // which of the attempts it is
	close   func() error
}

// supervisor keeps one source running.
type supervisor struct {
	watch    watch
	feed     *feed
	assemble func(watch) (assembly, error)
	// running is the attempt under way, for the commands of an operator;
	// nil between two attempts.
	running atomic.Pointer[assembly]
}

// run starts the source, and starts it again whenever it ends. It returns when
// ctx is done, or an error that wraps invalidation.ErrFatal. Unless the cause
// is errReplaced it has given up the lease then.
func (s *supervisor) run(ctx context.Context) error {
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
			s.leave(ctx)
			return err
		}
	}
}

// attempt runs all parts until one of them ends, stops the others, and returns
// when none is left. The error is the one that says most.
func (s *supervisor) attempt(ctx context.Context) error {
	watched := s.watch.begin()
	built, err := s.assemble(watched)
	if err != nil {
		return invalidation.Fatal(err)
	}
	defer func() { _ = built.close() }()
	built.attempt = watched.attempt
	s.running.Store(&built)
	err = runAll(ctx, built.parts)
	s.running.Store(nil)
	if isLast(ctx, err) {
		s.release(ctx, built.cache)
	}
	return err
}

func runAll(ctx context.Context, parts []part) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(parts))
	for _, p := range parts {
		go func() { ended <- p.Run(ctx) }()
	}
	first := <-ended
	cancel()
	for range parts[1:] {
		if err := <-ended; errors.Is(err, invalidation.ErrFatal) {
			first = err
		}
	}
	if first == nil {
		return errReturned
	}
	return first
}

// isLast reports whether no attempt of this process will follow the one that
// ended with err.
func isLast(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return !errors.Is(context.Cause(ctx), errReplaced)
	}
	return errors.Is(err, invalidation.ErrFatal)
}

// leave gives up the lease of a source that was told to stop between two
// attempts: the last one has kept it for the next.
func (s *supervisor) leave(ctx context.Context) {
	if !isLast(ctx, nil) {
		return
	}
	built, err := s.assemble(s.watch)
	if err != nil {
		return // the lease expires
	}
	defer func() { _ = built.close() }()
	s.release(ctx, built.cache)
}

// release lets another daemon take over at once.
func (s *supervisor) release(ctx context.Context, held cache) {
	if held == nil {
		return
	}
	s.watch.metrics.released()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	if err := held.Release(ctx); err != nil {
		s.watch.Observe(invalidation.Event{
			Kind: invalidation.Noted, Part: invalidation.PartLease, Err: err,
			Text: "the lease was not given up: another daemon takes over when it has expired",
		})
	}
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
