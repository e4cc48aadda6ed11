package binlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// Source reads one MySQL server's binary log.
type Source struct {
	cfg      Config
	serverID uint32
	noted    sync.Map                // texts that the Observer has been told
	applied  atomic.Pointer[applied] // nil before the first batch
}

// applied is how far Run came.
type applied struct {
	gtids string
	place place
}

// New checks the configuration; it opens no connection and starts nothing.
func New(cfg Config) (*Source, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.OnLost == "" {
		cfg.OnLost = invalidation.PurgeOnLost
	}
	if cfg.GateTimeout == 0 {
		cfg.GateTimeout = 10 * time.Second
	}
	if cfg.Observer == nil {
		cfg.Observer = invalidation.NoObserver()
	}
	return &Source{cfg: cfg, serverID: newServerID()}, nil
}

// Run reads until ctx is done or the Sink, or a setting that only a person can
// change, ends it: see invalidation.ErrResume and invalidation.ErrFatal. An
// unreachable server does not end it. Whatever breaks, the next session begins
// at the position that the Sink has stored.
func (s *Source) Run(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, 5*time.Second
	for {
		started := time.Now()
		err := s.session(ctx)
		if ctx.Err() == nil && !isSinkError(err) {
			if err = s.explain(err); errors.Is(err, invalidation.ErrFatal) {
				return err
			}
			s.cfg.Observer.Observe(invalidation.Event{Kind: invalidation.Waiting, Part: partOf(err), Err: err})
			if time.Since(started) > time.Minute {
				pause.Reset()
			}
			err = s.pause(ctx, pause.NextBackOff())
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if sinkErr, ok := errors.AsType[sinkError](err); ok {
			return sinkErr.error
		}
	}
}

// session connects, decides where to begin, and reads until something breaks.
func (s *Source) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stored, err := s.stored(ctx)
	if err != nil {
		return err
	}
	var server *server
	var found logState
	err = s.beating(ctx, cancel, func() (err error) {
		if server, err = s.connect(ctx); err != nil {
			return err
		}
		found, err = s.inspect(server)
		return err
	})
	if server != nil {
		defer server.close()
	}
	if err != nil {
		return err
	}
	begin, err := s.begin(ctx, server, found, stored)
	if err != nil {
		return err
	}
	err = s.beating(ctx, server.close, func() error { return server.dump(begin.done, s.serverID, dumpWaits) })
	if err != nil {
		return fmt.Errorf("start reading the binlog: %w", err)
	}
	return s.follow(ctx, server, begin)
}

// follow runs the reader beside the applier and waits for both.
func (s *Source) follow(ctx context.Context, server *server, begin *position) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := make(chan change, readAhead)
	read := make(chan error, 1)
	go func() {
		defer close(changes)
		r := newReader(s.cfg.Mapper, s.cfg.Observer, changes)
		read <- r.run(ctx, server)
	}()
	err := (&applier{source: s, server: server, at: begin}).run(ctx, changes)
	cancel()
	server.close() // wakes the reader
	readErr := <-read
	if err == nil || errors.Is(err, errStreamEnded) {
		return readErr
	}
	return err
}

// stored asks the Sink what each master of the cache remembers.
func (s *Source) stored(ctx context.Context) ([]string, error) {
	if s.cfg.FromNow {
		return nil, nil
	}
	positions, err := s.cfg.Sink.Positions(ctx)
	if err != nil {
		return nil, sinkError{fmt.Errorf("read the position: %w", err)}
	}
	return positions, nil
}

// sinkError marks an error of the Sink, which Run returns as it is.
type sinkError struct{ error }

func (e sinkError) Unwrap() error { return e.error }

func isSinkError(err error) bool {
	_, ok := errors.AsType[sinkError](err)
	return ok
}
