package redissink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// errAgain asks for the same pipeline again, at once.
var errAgain = errors.New("send the pipeline again")

// retry calls do until it succeeds, for as long as it takes: a cache that is
// away, loading, read-only or full comes back. It gives up on what only a
// person or a restart of the Source heals.
func (s *Sink) retry(ctx context.Context, doing string, do func() error) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 20*time.Millisecond, 2*time.Second
	for again := 0; ; {
		err := do()
		switch {
		case err == nil:
			s.working()
			return nil
		case errors.Is(err, errAgain) && again < 3:
			again++
			continue
		case errors.Is(err, invalidation.ErrResume), errors.Is(err, invalidation.ErrFatal):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case isWrongPassword(err):
			return invalidation.Fatal(fmt.Errorf("redis %s refuses the login: check its username and password: %w", s.cfg.Redis.Addr, err))
		case isWrongSetting(err):
			return invalidation.Fatal(fmt.Errorf("redis %s: check its db and tls settings: %w", s.cfg.Redis.Addr, err))
		}
		s.wait(fmt.Errorf("%s: %w", doing, err))
		again = 0
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

func (s *Sink) wait(err error) {
	s.waiting = true
	s.cfg.Observer.Observe(invalidation.Event{Kind: invalidation.Waiting, Part: invalidation.PartCache, Err: err})
}

func (s *Sink) working() {
	if s.waiting {
		s.waiting = false
		s.cfg.Observer.Observe(invalidation.Event{Kind: invalidation.Working, Part: invalidation.PartCache})
	}
}

func isWrongPassword(err error) bool {
	text := err.Error()
	return strings.Contains(text, "WRONGPASS") || strings.Contains(text, "NOAUTH") || strings.Contains(text, "invalid password")
}

// isWrongSetting reports errors of the configuration that no wait heals.
func isWrongSetting(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	return strings.Contains(err.Error(), "DB index is out of range")
}
