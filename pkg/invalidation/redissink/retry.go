package redissink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// patience is how long a cluster waits for one master before it goes on
// without it. An election takes less.
const patience = 5 * time.Second

var (
	// errMoved: what was to be done has to find its master anew.
	errMoved = errors.New("the masters have changed")
	// errAhead: the position has gone ahead, in a slot on its way elsewhere.
	errAhead = errors.New("the position is in a slot that is on its way to another master")
	// errBehind: the master was left behind.
	errBehind = errors.New("the master is left behind")
)

func newPause() *backoff.ExponentialBackOff {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 20*time.Millisecond, time.Second
	return pause
}

// persist calls do until it succeeds, for as long as it takes: a master that is
// away, loading, read-only or full comes back. It gives up on what only a
// person or a restart of the Source heals, with errMoved when the layout
// changed, and with errBehind on a master that holds the others up.
func (s *Sink) persist(ctx context.Context, sh *shard, doing string, do func() error) error {
	pause := newPause()
	for again := 0; ; {
		changes, begun := s.changes(), time.Now()
		err := s.doOn(ctx, sh, do)
		switch {
		case err == nil:
			if sh.state.works() {
				s.working(s.partOf(sh))
			}
			return nil
		case errors.Is(err, errAgain) && again < 3:
			again++
			continue
		case errors.Is(err, invalidation.ErrResume), errors.Is(err, invalidation.ErrFatal), errors.Is(err, errMoved), errors.Is(err, errBehind):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if explained := explain(s.cfg, err); errors.Is(explained, invalidation.ErrFatal) {
			return explained
		}
		again = 0
		since := sh.state.fails(begun)
		if s.hasMoved(ctx, err) {
			return errMoved
		}
		if resume := s.resume.Load(); resume != nil {
			return *resume
		}
		if s.leaveBehind(sh, since, err) {
			return errBehind
		}
		s.waiting(s.partOf(sh), fmt.Errorf("%s: %w", doing, err))
		if err := sleepUnless(ctx, pause.NextBackOff(), changes); err != nil {
			return err
		}
		if s.seen.Load() != s.layout.Load() {
			return errMoved
		}
	}
}

// doOn calls do, and asks for it again where the master needed another slot for
// its position first.
func (s *Sink) doOn(ctx context.Context, sh *shard, do func() error) error {
	at := *sh.at.Load()
	err := do()
	if !errors.Is(err, errAhead) {
		return err
	}
	if err := s.leaveSlot(ctx, sh, at); err != nil {
		return err
	}
	return errAgain
}

// explain makes errors fatal that no wait heals, and says what to do.
func explain(cfg Config, err error) error {
	switch {
	case errors.Is(err, invalidation.ErrFatal):
	case isWrongPassword(err):
		return invalidation.Fatal(fmt.Errorf("redis %s refuses the login: check its username and password: %w", strings.Join(cfg.Redis.Addrs, " "), err))
	case isWrongSetting(err):
		return invalidation.Fatal(fmt.Errorf("redis %s: check its mode, db and tls settings: %w", strings.Join(cfg.Redis.Addrs, " "), err))
	}
	return err
}

// hasMoved reports whether the layout is another one by now.
func (s *Sink) hasMoved(ctx context.Context, err error) bool {
	if s.layout.Load().owner != nil && strings.Contains(err.Error(), "MOVED ") {
		_ = s.look(ctx) // watch tells when that fails
	}
	return s.seen.Load() != s.layout.Load()
}

// leaveBehind reports whether a master that fails is to be left behind: after a
// while, and where others work. Its position stays where it is, so that what it
// misses is replayed when it is back.
func (s *Sink) leaveBehind(sh *shard, since time.Time, err error) bool {
	if sh.state.isBehind() {
		return true
	}
	if time.Since(since) < patience || !isAway(err) {
		return false
	}
	for _, other := range s.current() {
		if other != sh && other.state.worked(since.Add(-time.Second)) {
			sh.state.leave()
			s.waiting(s.partOf(sh), fmt.Errorf("is left behind, the other masters go on: %w", err))
			return true
		}
	}
	return false
}

// isAway reports whether a master takes nobody's writes. One that refuses for
// another reason is not left behind: it would be found to be back at once.
func isAway(err error) bool {
	if errors.Is(err, errAllMoving) {
		return false
	}
	reply, ok := errors.AsType[redis.Error](err)
	if !ok {
		return true
	}
	for _, prefix := range []string{"LOADING", "BUSY", "READONLY", "MASTERDOWN", "NOREPLICAS", "MISCONF", "CLUSTERDOWN The cluster"} {
		if strings.HasPrefix(reply.Error(), prefix) {
			return true
		}
	}
	return false
}

// partOf is how events call a master.
func (s *Sink) partOf(sh *shard) string {
	if s.layout.Load().owner == nil {
		return invalidation.PartCache
	}
	return invalidation.PartCache + " " + sh.address()
}

func (s *Sink) waiting(part string, err error) {
	if text := err.Error(); strings.Contains(text, "NOPERM") || strings.Contains(text, "no permissions to run") {
		err = fmt.Errorf("%w (\"invalidator check\" names the rights that are missing)", err)
	}
	s.observe(invalidation.Event{Kind: invalidation.Waiting, Part: part, Err: err})
}

func (s *Sink) working(part string) {
	s.observe(invalidation.Event{Kind: invalidation.Working, Part: part})
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

// isRefused reports errors that never go away for one key.
func isRefused(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "NOPERM") && strings.Contains(text, "access") && strings.Contains(text, "key")
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// sleepUnless is sleep that wake ends.
func sleepUnless(ctx context.Context, pause time.Duration, wake <-chan struct{}) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wake:
	case <-timer.C:
	}
	return nil
}

func sleep(ctx context.Context, pause time.Duration) error { return sleepUnless(ctx, pause, nil) }
