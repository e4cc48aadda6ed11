package redissink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	keysPerUnlink = 256
	// heartbeat is how long a master goes without a compare-and-set while
	// others get deletes.
	heartbeat = 500 * time.Millisecond
)

// patientRounds is how often keys are sent to where a redirect points until
// somebody hears of it.
const patientRounds = 3

// delete deletes keys from the masters that own them, and makes the
// compare-and-set on all that were not heard of for a while; on all of them
// where there are no keys. It returns when every delete was answered, but for
// those of masters that are left behind. The daemon's own keys stay.
func (s *Sink) delete(ctx context.Context, keys []string, found *tally) error {
	keys, own := s.withoutOwn(keys)
	if len(own) > 0 {
		found.leave(own)
		s.observe(invalidation.Event{Kind: invalidation.Noted, Part: invalidation.PartCache, Text: "somebody asks for the deletion of the daemon's own keys, which stay"})
	}
	for round := 0; ; round++ {
		if err := s.adopt(ctx); err != nil {
			return err
		}
		again, why, err := s.deleteOnce(ctx, keys, found)
		if err != nil {
			return err
		}
		if len(again) == 0 {
			if round > patientRounds {
				s.working(invalidation.PartCache)
			}
			return nil
		}
		if keys = again; round >= patientRounds && why != nil {
			s.waiting(invalidation.PartCache, why)
		}
		// Those keys have moved to another master.
		if err := s.refresh(ctx, round); err != nil {
			return err
		}
	}
}

// part is what one master gets of a batch.
type part struct {
	shard *shard
	keys  []string
}

// deleteOnce returns the keys that have to find their master anew, and why.
func (s *Sink) deleteOnce(ctx context.Context, keys []string, found *tally) (again []string, why, err error) {
	parts, lost := s.route(keys, found)
	if len(lost) > 0 {
		again, why = lost, fmt.Errorf("delete: %w", errUnserved(slotOf(lost[0])))
	}
	if len(parts) == 1 {
		moved, movedWhy, err := s.deletePart(ctx, parts[0], found)
		return append(again, moved...), cmp.Or(movedWhy, why), err
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, p := range parts {
		all.Go(func() {
			moved, movedWhy, failed := s.deletePart(ctx, p, found)
			mu.Lock()
			defer mu.Unlock()
			again, why = append(again, moved...), cmp.Or(movedWhy, why)
			err = worse(err, failed)
		})
	}
	all.Wait()
	return again, why, err
}

// worse returns the error that says more: a fatal one before any other.
func worse(a, b error) error {
	if a == nil || errors.Is(b, invalidation.ErrFatal) {
		return b
	}
	return a
}

// route gives each key to the master that owns it; lost are those whose slot
// nobody owns. A master without keys is in it when a compare-and-set is due, one
// that is left behind is not.
func (s *Sink) route(keys []string, found *tally) (parts []part, lost []string) {
	in, shards := s.layout.Load(), s.current()
	if in.owner == nil {
		return []part{{shards[0], keys}}, nil
	}
	byAddr := make(map[string]int, len(shards))
	parts = make([]part, len(shards))
	for i, sh := range shards {
		parts[i].shard = sh
		byAddr[sh.address()] = i
	}
	for _, key := range keys {
		if i, ok := byAddr[in.owner[slotOf(key)]]; ok {
			parts[i].keys = append(parts[i].keys, key)
		} else {
			lost = append(lost, key)
		}
	}
	since := time.Now().Add(-heartbeat)
	return slices.DeleteFunc(parts, func(p part) bool {
		if p.shard.state.isBehind() {
			found.leave(p.keys)
			return true
		}
		return len(keys) > 0 && len(p.keys) == 0 && p.shard.state.worked(since)
	}), lost
}

// deletePart deletes one master's keys. It returns those that another master has
// by now, and why.
func (s *Sink) deletePart(ctx context.Context, p part, found *tally) (moved []string, why, err error) {
	c := &chunk{sink: s, shard: p.shard, found: found, left: p.keys, parks: true}
	err = c.delete(ctx, "delete")
	switch {
	case errors.Is(err, errMoved):
		return append(c.moved, c.left...), c.why, nil
	case errors.Is(err, errBehind):
		found.leave(c.left)
		err = nil
	}
	return c.moved, c.why, err
}

// perCommand is how many keys one command deletes: in a cluster they would have
// to share a slot.
func (s *Sink) perCommand() int {
	if s.layout.Load().owner != nil {
		return 1
	}
	return keysPerUnlink
}

// ask deletes keys of a slot that is on its way to another master, where the
// one that still owns it has said that they are not. A node that owns no slot
// yet has no position: it can not fail over either.
func (s *Sink) ask(ctx context.Context, addr string, keys []string, found *tally) error {
	asked, commands := make([]*redis.Cmd, len(keys)), make([]*redis.IntCmd, len(keys))
	fill := func(pipe redis.Pipeliner) {
		for i, key := range keys {
			asked[i], commands[i] = pipe.Do(ctx, "ASKING"), pipe.Unlink(ctx, key)
		}
	}
	if err := s.sendTo(ctx, addr, fill); err != nil {
		return err
	}
	for i, cmd := range commands {
		if err := asked[i].Err(); err != nil { // else the next reply says MOVED
			return err
		}
		n, err := cmd.Result()
		if err != nil {
			return err
		}
		found.add(found.of(keys[i]), 1, int(n))
	}
	return nil
}

func (s *Sink) sendTo(ctx context.Context, addr string, fill func(redis.Pipeliner)) error {
	for _, sh := range s.current() {
		if sh.address() == addr {
			return sh.send(ctx, fill)
		}
	}
	client := redis.NewClient(s.cfg.options(addr, func() {}))
	defer client.Close()
	pipe := client.Pipeline()
	fill(pipe)
	_, err := pipe.Exec(ctx)
	return err
}

// askOnce sends one command about a key whose slot is on its way to the
// client's server, and closes the client.
func askOnce[C redis.Cmder](ctx context.Context, client *redis.Client, command func(redis.Pipeliner) C) C {
	defer client.Close()
	pipe := client.Pipeline()
	asked, reply := pipe.Do(ctx, "ASKING"), command(pipe)
	_, _ = pipe.Exec(ctx) // it is in the replies
	if err := asked.Err(); err != nil {
		reply.SetErr(err)
	}
	return reply
}
