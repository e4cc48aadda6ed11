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

// op is one command about one key.
type op struct {
	step step
	key  string
	cmd  *redis.Cmd
	once bool      // it grants a lease: see onceCmd
	eval []any     // what to send when the server does not know the script
	err  error     // redis.Nil is none
	none bool      // the reply was nil
	then func(*op) // what to make of the reply
}

func (c *Client) command(ctx context.Context, s step, key string, once bool, args ...any) *op {
	return &op{step: s, key: key, once: once, cmd: redis.NewCmd(ctx, args...)}
}

func (o *op) sent() redis.Cmder {
	if o.once {
		return onceCmd{o.cmd}
	}
	return o.cmd
}

// yes reports whether a script did something.
func (o *op) yes() bool {
	if o.err != nil {
		return false
	}
	n, err := o.cmd.Int()
	return err == nil && n == 1
}

// exec sends ops in one round trip.
func (c *Client) exec(ctx context.Context, ops []*op) {
	for _, o := range ops {
		c.hooks.at(ctx, o.step, o.key)
	}
	began := time.Now()
	if !c.redis.allow() {
		for _, o := range ops {
			o.err = ErrRedisOpen
		}
		return
	}
	bounded, cancel := context.WithTimeout(ctx, c.opts.RedisTimeout)
	defer cancel()
	c.send(bounded, ops)
	var unknown []*op
	for _, o := range ops {
		if o.eval != nil && redis.HasErrorPrefix(o.err, "NOSCRIPT") {
			// The server has not run it, so sending it again with the same lease is still the first time.
			o.cmd = redis.NewCmd(bounded, o.eval...)
			unknown = append(unknown, o)
		}
	}
	if len(unknown) > 0 {
		c.send(bounded, unknown)
	}
	for _, o := range ops {
		c.hooks.answered(o.step, o.key)
	}
	c.report(ops, time.Since(began))
}

func (c *Client) send(ctx context.Context, ops []*op) {
	var err error
	if len(ops) == 1 {
		err = c.reads.Process(ctx, ops[0].sent())
	} else {
		pipe := c.reads.Pipeline()
		for _, o := range ops {
			_ = pipe.Process(ctx, o.sent())
		}
		_, err = pipe.Exec(ctx)
	}
	silent := err != nil // a hook of the client may fail without telling the commands
	for _, o := range ops {
		o.err = o.cmd.Err()
		silent = silent && o.err == nil
	}
	for _, o := range ops {
		if silent {
			o.err = err
		}
		if o.none = errors.Is(o.err, redis.Nil); o.none {
			o.err = nil
		}
	}
}

// report tells the breaker and the observer how ops went.
func (c *Client) report(ops []*op, took time.Duration) {
	var worst error
	for _, o := range ops {
		if o.err != nil && (worst == nil || !isReply(o.err)) {
			worst = o.err
		}
	}
	c.redis.record(worst)
	for _, o := range ops {
		if o.err == nil || isWrongType(o.err) {
			continue
		}
		o.err = fmt.Errorf("%s: %w", o.step, o.err)
		c.opts.Observer.Observe(Event{Kind: EventRedisError, Key: o.key, Err: o.err, Took: took})
	}
}

// ask sends the next command of every search, in one round trip.
func (c *Client) ask(ctx context.Context, all []*search) {
	ops := make([]*op, len(all))
	for i, s := range all {
		ops[i] = s.next(ctx)
		if s.f != nil {
			s.mark = s.f.mark()
		}
	}
	c.exec(ctx, ops)
	for i, s := range all {
		s.asked = true
		ops[i].then(ops[i])
	}
}

// next is the command that what was seen calls for. Whoever gets a lease sees it as the entry.
func (s *search) next(ctx context.Context) *op {
	if s.at.unknown {
		return s.get(ctx)
	}
	if s.at.absent {
		return s.lease(ctx)
	}
	if isWrongType(s.at.err) {
		s.why = errType
		return s.take(ctx, s.c.claim, nil)
	}
	if s.f == nil {
		return s.claimValue(ctx)
	}
	switch v, _ := s.src.inspect(s.at.raw); v {
	case verdictExpired:
		return s.claimValue(ctx)
	case verdictForeign:
		return s.take(ctx, s.c.fill, seen(s.at.raw))
	}
	return s.get(ctx)
}

// get looks at the key.
func (s *search) get(ctx context.Context) *op {
	o := s.c.command(ctx, stepGet, s.key, false, "get", s.key)
	o.then = func(o *op) { s.at = lookOf(o) }
	return o
}

func lookOf(o *op) look {
	if o.err != nil || o.none {
		return look{absent: o.none, err: o.err}
	}
	text, err := o.cmd.Text()
	return look{raw: []byte(text), err: err}
}

// lease asks for a lease on an absent key.
func (s *search) lease(ctx context.Context) *op {
	mine := s.newLease()
	o := s.c.command(ctx, stepLease, s.key, true, "set", s.key, mine[:], "nx", "get", "px", s.c.opts.Lease.Milliseconds())
	o.then = func(o *op) {
		s.tries++
		switch {
		case o.none: // nothing was there: granted
			s.at = look{raw: mine[:]}
		case o.err != nil && !isReply(o.err) && !errors.Is(o.err, ErrRedisOpen) && s.tries < leaseAttempts:
			return // still absent, as far as is known: the next attempt takes a new nonce
		default:
			s.at, s.tries = lookOf(o), 0
		}
	}
	return o
}

// take replaces something that is of no use by a lease, and looks again if that is refused.
func (s *search) take(ctx context.Context, by script, seen []byte) *op {
	mine, why := s.newLease(), s.why
	args := []any{mine[:], s.c.opts.Lease.Milliseconds()}
	if seen != nil {
		args = append([]any{seen}, args...)
	}
	o := by.op(ctx, stepReplace, s.key, true, args...)
	o.then = func(o *op) {
		switch {
		case o.err != nil:
			s.at = look{err: o.err}
		case o.yes():
			s.at = look{raw: mine[:]}
			s.c.opts.Observer.Observe(Event{Kind: EventForeign, Key: s.key, Err: why})
		default:
			s.at = look{unknown: true}
		}
	}
	return o
}

// release gives what is held up, so that nobody waits for it. If that fails it expires.
func (c *Client) release(ctx context.Context, held []*search) {
	if len(held) == 0 {
		return
	}
	ops := make([]*op, len(held))
	for i, s := range held {
		if s.released != nil {
			ops[i] = c.fill.op(ctx, stepRelease, s.key, false, s.held, s.released, "keep")
		} else {
			ops[i] = c.fill.op(ctx, stepRelease, s.key, false, s.held, "", 0)
		}
	}
	c.exec(ctx, ops)
}

// isReply reports whether the server answered with err, so that it is known not to have run the command.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

func isWrongType(err error) bool {
	return err != nil && redis.HasErrorPrefix(err, "WRONGTYPE")
}
