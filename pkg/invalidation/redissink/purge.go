package redissink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	// scanCount is how many keys one SCAN looks at: under a millisecond of
	// Redis, which deletes wait for.
	scanCount = 1000
	// scanFactor is how many keys a purge looks at while it may delete one.
	scanFactor = 10
)

// save stores what was earned: a purge is worth remembering before anything can
// go wrong.
func (s *Sink) save(ctx context.Context) error {
	for _, sh := range s.current() {
		if sh.state.isBehind() {
			continue
		}
		err := sh.send(ctx, func(redis.Pipeliner) {})
		if errors.Is(err, invalidation.ErrResume) {
			return err // another error comes again with the next heartbeat
		}
	}
	return nil
}

// untilPositions waits until the Source begins again.
func (s *Sink) untilPositions(ctx context.Context) error {
	for s.resume.Load() != nil {
		if err := sleep(ctx, watchEvery); err != nil {
			return err
		}
	}
	return nil
}

// pass is one look at all keys.
type pass struct {
	*purge

	scanned, deleted int
	refused          int      // keys that Redis refuses to delete
	refusal          error    // why, for the first of them
	moved            bool     // some keys were on their way to another master
	without          []string // masters that are left behind
}

// event returns an event of the purge.
func (p *purge) event(kind invalidation.Kind) invalidation.Event {
	return invalidation.Event{Kind: kind, Part: invalidation.PartCache, Text: p.pattern, ByHand: p.byHand}
}

// progress says how far the pass is.
func (s *Sink) progress(p *pass) {
	e := p.event(invalidation.PurgeProgress)
	e.Count, e.Scanned = p.deleted, p.scanned
	s.observe(e)
}

// left says what a purge did not delete; nil: it deleted everything.
func (p *pass) left() error {
	var left []error
	switch {
	case p.refused > 0 && p.byHand:
		left = append(left, fmt.Errorf("%d keys were refused and stay: let the daemon's user delete them, and purge again: %w", p.refused, p.refusal))
	case p.refused > 0:
		left = append(left, fmt.Errorf("%d keys were refused, and parked", p.refused))
	}
	if len(p.without) > 0 {
		left = append(left, fmt.Errorf("%s could not be reached: a purge by hand has to be repeated when it is back", strings.Join(p.without, " and ")))
	}
	return errors.Join(left...)
}

// purge deletes every key that matches the pattern, but for the daemon's own.
// A scan can not go on elsewhere, nor on a new connection, which may lead to
// another server: it begins again at cursor 0, on all masters.
func (s *Sink) purge(ctx context.Context, one *purge) error {
	var before []string // slots on the move during the last pass
	deleted, scanned := 0, 0
	pause := newPause()
	for again := false; ; again = true {
		p := &pass{purge: one}
		moving, err := s.purgeOnce(ctx, p)
		deleted, scanned = deleted+p.deleted, scanned+p.scanned
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errMoved):
			before = nil
			if err := sleep(ctx, max(pause.NextBackOff(), watchEvery)); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		// A key moves from a slot's owner to the next only, so that the
		// second of two passes finds what moved behind the first one's back.
		if len(moving) == 0 || again && slices.Equal(moving, before) {
			e := one.event(invalidation.PurgeDone)
			e.Count, e.Scanned, e.Err = deleted, scanned, p.left()
			s.observe(e)
			return nil
		}
		before = moving
	}
}

// purgeOnce makes one pass, and returns the slots that were on the move.
func (s *Sink) purgeOnce(ctx context.Context, p *pass) (moving []string, err error) {
	in, shards := s.layout.Load(), s.current()
	if in == nil || in != s.seen.Load() {
		return nil, errMoved
	}
	found, err := s.survey(ctx, shards)
	if err != nil {
		return nil, err
	}
	begun := p.event(invalidation.PurgeStarted)
	begun.Count = found.size
	s.observe(begun)
	for i, sh := range shards {
		if err := s.scan(ctx, sh, found.on[i], p); err != nil {
			return nil, err
		}
	}
	for _, addr := range found.targets { // keys move from where they were to these, which come last
		if in.has(addr) {
			continue
		}
		if err := s.purgeGuest(ctx, addr, p); err != nil {
			return nil, err
		}
	}
	if err := s.seal(ctx, shards); err != nil {
		return nil, err
	}
	if p.moved {
		return nil, errMoved
	}
	return s.unchanged(ctx, in, shards, found)
}

// unchanged fails with errMoved where the masters are not those that a survey
// has found, and returns the slots that were on the move. It asks until somebody
// says who the masters are: what was deleted meanwhile was not in vain.
func (s *Sink) unchanged(ctx context.Context, in *layout, shards []*shard, found survey) (moving []string, err error) {
	moving = found.moving
	for pause := newPause(); ; {
		after, err := s.survey(ctx, shards)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(after.owned, found.owned) || !slices.Equal(after.on, found.on) {
			return nil, errMoved
		}
		moving = append(moving, after.moving...)
		slices.Sort(moving)
		moving = slices.Compact(moving)
		err = s.look(ctx)
		switch {
		case in != s.seen.Load():
			return nil, errMoved
		case err == nil, errors.Is(err, invalidation.ErrFatal):
			return moving, err
		}
		if err := sleep(ctx, pause.NextBackOff()); err != nil {
			return nil, err
		}
	}
}

// seal writes a new nonce to each master. What a scan did not find may have been
// deleted by others just before it: a replica that lacks their delete is to lack
// this nonce as well, and not to accept what the purge has earned.
func (s *Sink) seal(ctx context.Context, shards []*shard) error {
	for _, sh := range shards {
		err := s.persist(ctx, sh, "purge", func() error { return sh.send(ctx, func(redis.Pipeliner) {}) })
		if err != nil && !errors.Is(err, errBehind) {
			return err
		}
	}
	return nil
}

// scan goes once through the keys of one master, on one connection.
func (s *Sink) scan(ctx context.Context, sh *shard, on int64, p *pass) error {
	for cursor := uint64(0); ; {
		next, err := s.scanStep(ctx, sh, cursor, on, p)
		switch {
		case errors.Is(err, errBehind):
			s.observe(invalidation.Event{Kind: invalidation.Noted, Part: s.partOf(sh), Text: "is left behind, so the purge of " + p.pattern + " goes on without it; what the log asks for is made up for when it is back"})
			p.without = append(p.without, sh.address())
			return nil
		case err != nil:
			return err
		}
		s.progress(p)
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// scanStep looks at some keys and deletes those that match.
func (s *Sink) scanStep(ctx context.Context, sh *shard, cursor uint64, on int64, p *pass) (next uint64, err error) {
	started := time.Now()
	var keys []string
	err = s.persist(ctx, sh, "purge", func() error {
		if sh.state.isBehind() {
			return errBehind
		}
		err := sh.ask(func(client *redis.Client) (err error) {
			keys, next, err = client.Scan(ctx, cursor, p.pattern, scanCount).Result()
			return err
		})
		switch {
		case sh.connections.Load() != on:
			return errMoved
		case err != nil:
			return fmt.Errorf("scan: %w", err)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	keys, _ = s.withoutOwn(keys)
	for some := range slices.Chunk(keys, s.atOnce()) {
		if err := s.purgeSome(ctx, sh, some, p); err != nil {
			return 0, err
		}
		s.progress(p) // the next ones may have to wait for long
		if err := s.throttle(ctx, len(some), time.Since(started)); err != nil {
			return 0, err
		}
		started = time.Now()
	}
	p.scanned += scanCount
	return next, s.throttle(ctx, scanCount/scanFactor-len(keys), time.Since(started))
}

// purgeSome deletes keys that a scan has found.
func (s *Sink) purgeSome(ctx context.Context, sh *shard, keys []string, p *pass) error {
	found := &tally{group: func(string) string { return "" }, counts: map[string]*count{}}
	c := &chunk{sink: s, shard: sh, found: found, left: keys, parks: !p.byHand}
	if err := c.delete(ctx, "purge"); err != nil {
		return err
	}
	if len(c.moved) > 0 {
		s.purgeMoved(ctx, sh, c, p)
	}
	p.deleted += len(keys) - len(found.left)
	p.refused, p.refusal = p.refused+len(found.left), cmp.Or(p.refusal, c.refusal)
	return nil
}

// purgeMoved deletes keys of a slot that is on its way to this master. Where it
// is not, and the slots stay as they are, they are left from a migration that
// was abandoned, and no client can reach them.
func (s *Sink) purgeMoved(ctx context.Context, sh *shard, c *chunk, p *pass) {
	err := s.ask(ctx, sh.address(), c.moved, nil)
	if err != nil && redirect(err, "MOVED ") == "" {
		p.moved = true
		sh.state.fails(time.Now())
		s.waiting(s.partOf(sh), fmt.Errorf("purge: %w", cmp.Or(c.why, err)))
	}
}

// purgeGuest scans a node that owns no slot yet, but has a part of one.
func (s *Sink) purgeGuest(ctx context.Context, addr string, p *pass) error {
	client := redis.NewClient(s.cfg.options(addr, func() {}))
	defer client.Close()
	for cursor := uint64(0); ; {
		started := time.Now()
		keys, next, err := client.Scan(ctx, cursor, p.pattern, scanCount).Result()
		keys, _ = s.withoutOwn(keys)
		for some := range slices.Chunk(keys, s.atOnce()) {
			if err = s.ask(ctx, addr, some, nil); err != nil {
				break
			}
			if err := s.throttle(ctx, len(some), time.Since(started)); err != nil {
				return err
			}
			started = time.Now()
		}
		if err != nil && redirect(err, "MOVED ") == "" {
			s.waiting(invalidation.PartCache, fmt.Errorf("purge at %s: %w", addr, err))
			return errMoved
		}
		p.deleted += len(keys)
		if cursor = next; cursor == 0 {
			return nil
		}
		if err := s.throttle(ctx, scanCount/scanFactor-len(keys), time.Since(started)); err != nil {
			return err
		}
	}
}

// atOnce is how many keys a purge deletes before it waits: a tenth of what it
// may in a second.
func (s *Sink) atOnce() int {
	if s.cfg.PurgeRate < 0 {
		return keysPerPipeline
	}
	return min(max(s.cfg.PurgeRate/10, 1), keysPerPipeline)
}

// throttle waits until the deletion of some keys took as long as PurgeRate asks
// for.
func (s *Sink) throttle(ctx context.Context, deleted int, took time.Duration) error {
	if s.cfg.PurgeRate < 0 {
		return ctx.Err()
	}
	pause := time.Duration(deleted)*time.Second/time.Duration(s.cfg.PurgeRate) - took
	if pause <= 0 {
		return ctx.Err()
	}
	return sleep(ctx, pause)
}
