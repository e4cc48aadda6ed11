package cacheaside

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// leaseAttempts is how often a read asks for a lease while replies are lost, each time with a new nonce.
const leaseAttempts = 2

// get looks at the key.
func (s *search) get(ctx context.Context) (at look) {
	at.err = s.do(ctx, stepGet, func(ctx context.Context) (err error) {
		at.raw, err = s.c.reads.Get(ctx, s.key).Bytes()
		at.absent = errors.Is(err, redis.Nil)
		return ignoreNil(err)
	})
	return at
}

// lease asks for a lease on an absent key.
func (s *search) lease(ctx context.Context) (at look) {
	for range leaseAttempts {
		at = s.leaseOnce(ctx)
		if at.err == nil || isReply(at.err) || ctx.Err() != nil {
			break
		}
	}
	return at
}

func (s *search) leaseOnce(ctx context.Context) (at look) {
	mine := s.newLease()
	at.err = s.do(ctx, stepLease, func(ctx context.Context) error {
		cmd := redis.NewCmd(ctx, "set", s.key, mine[:], "nx", "get", "px", s.c.opts.Lease.Milliseconds())
		err := s.c.reads.Process(ctx, onceCmd{cmd})
		if errors.Is(err, redis.Nil) { // nothing was there: granted
			at.raw = mine[:]
			return nil
		}
		if err != nil {
			return err
		}
		other, err := cmd.Text()
		at.raw = []byte(other)
		return err
	})
	return at
}

// take tries to replace something that is of no use by a lease, and looks again if that was refused.
func (s *search) take(ctx context.Context, replace func(ctx context.Context, l lease) (bool, error)) (at look) {
	mine, why, taken := s.newLease(), s.why, false
	at.err = s.do(ctx, stepReplace, func(ctx context.Context) (err error) {
		taken, err = replace(ctx, mine)
		return err
	})
	switch {
	case at.err != nil:
		return at
	case !taken:
		return s.get(ctx)
	}
	s.c.opts.Observer.Observe(Event{Kind: EventForeign, Key: s.key, Err: why})
	return look{raw: mine[:]}
}

// fill replaces the held lease by entry, and says how the read ended.
func (s *search) fill(ctx context.Context, entry []byte, ttl time.Duration) (EventKind, error) {
	filled := false
	err := s.do(context.WithoutCancel(ctx), stepFill, func(ctx context.Context) (err error) {
		filled, err = s.c.fill.run(ctx, s.c.reads, false, s.key, s.held[:], entry, ttl.Milliseconds())
		return err
	})
	switch {
	case isReply(err): // such as OOM: the lease is still there, and removing it needs no memory
		s.release(ctx)
		return EventNotFilled, err
	case err != nil:
		return EventNotFilled, err
	case filled:
		return EventFilled, nil
	}
	return EventRejected, nil
}

// release gives the held lease up, so that nobody waits for it. If that fails the lease expires.
func (s *search) release(ctx context.Context) {
	_ = s.do(context.WithoutCancel(ctx), stepRelease, func(ctx context.Context) error {
		_, err := s.c.fill.run(ctx, s.c.reads, false, s.key, s.held[:], "", 0)
		return err
	})
}

// do runs one Redis operation within the timeout, and reports it if it fails.
func (s *search) do(ctx context.Context, name step, op func(ctx context.Context) error) error {
	s.c.hooks.at(ctx, name, s.key)
	began := time.Now()
	opCtx, cancel := context.WithTimeout(ctx, s.c.opts.RedisTimeout)
	defer cancel()
	err := op(opCtx)
	switch {
	case err == nil, isWrongType(err):
		return err
	case ctx.Err() == nil: // otherwise the caller went away, and Redis is not to blame
		err = fmt.Errorf("%s: %w", name, err)
		s.c.opts.Observer.Observe(Event{Kind: EventRedisError, Key: s.key, Err: err, Took: time.Since(began)})
	}
	return err
}

func ignoreNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// isReply reports whether the server answered with err, so that it is known not to have run the command.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

func isWrongType(err error) bool {
	return err != nil && redis.HasErrorPrefix(err, "WRONGTYPE")
}
