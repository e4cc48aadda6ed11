package redissink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// begin asks for the layout and reads every master's position. It fails with
// invalidation.ErrResume where it has to be called again.
func (s *Sink) begin(ctx context.Context) ([]string, error) {
	pause := newPause()
	for {
		positions, err := s.beginOnce(ctx)
		switch {
		case err == nil, errors.Is(err, invalidation.ErrFatal), errors.Is(err, invalidation.ErrResume):
			return positions, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, errMoved):
			s.waiting(invalidation.PartCache, fmt.Errorf("read the position: %w", err))
		}
		if err := sleep(ctx, pause.NextBackOff()); err != nil {
			return nil, err
		}
	}
}

func (s *Sink) beginOnce(ctx context.Context) ([]string, error) {
	if err := s.look(ctx); err != nil {
		return nil, explain(s.cfg, err)
	}
	in := s.seen.Load()
	s.layout.Store(in)
	shards := make([]*shard, len(in.masters))
	for i, addr := range in.masters {
		shards[i] = newShard(s.cfg, s.scripts, &s.earned, addr, s.placeIn(in.middle(addr)))
		if dead := s.dead.Load(); dead != nil && dead.addr == addr {
			shards[i].state.fails(dead.since)
		}
	}
	for _, before := range s.current() {
		before.close()
		for _, sh := range shards {
			if sh.address() == before.address() {
				sh.follows(before)
			}
		}
	}
	s.replace(shards)
	positions, errs := make([][]string, len(shards)), make([]error, len(shards))
	var all sync.WaitGroup
	for i, sh := range shards {
		all.Go(func() {
			errs[i] = s.persist(ctx, sh, "read the position", func() (err error) {
				positions[i], err = s.readAll(ctx, sh)
				return err
			})
			if errors.Is(errs[i], errBehind) {
				errs[i], positions[i] = nil, nil
			}
		})
	}
	all.Wait()
	var err error
	for _, failed := range errs {
		err = worse(err, failed)
	}
	if err == nil && s.seen.Load() != in {
		err = errMoved // a position may have moved from a master to one that was read before
	}
	return slices.Concat(positions...), err
}

// placeIn returns the position's place in a slot; outside of clusters its key
// has no tag.
func (s *Sink) placeIn(slot int) place { return place{slot, s.keyIn(slot)} }

func (s *Sink) keyIn(slot int) string {
	key := PositionKey(s.cfg.Namespace, s.cfg.Source)
	if slot < 0 {
		return key
	}
	return key + slotTags()[slot]
}

// readAll reads the positions of one master. Slots that came from other masters
// may have brought theirs along; all of them count until a newer one is stored.
func (s *Sink) readAll(ctx context.Context, sh *shard) ([]string, error) {
	if s.layout.Load().owner == nil {
		position, err := sh.read(ctx)
		return []string{position}, err
	}
	here, ahead, err := s.find(ctx, sh)
	if err != nil {
		return nil, err
	}
	positions := make([]string, 0, len(here)+len(ahead))
	for _, value := range slices.Concat(here, ahead) {
		position, err := positionOf(value.key, value.text)
		if err != nil {
			return nil, err
		}
		positions = append(positions, position)
	}
	switch {
	case len(here) > 0:
		sh.at.Store(&place{slotOf(here[0].key), here[0].key})
	case len(ahead) > 0:
		// It has gone ahead, in a slot on its way to another master.
		stays, ok := s.staying(ctx, sh)
		if !ok {
			return nil, errAllMoving
		}
		sh.at.Store(&stays)
	}
	position, err := sh.read(ctx)
	if err != nil {
		return nil, err
	}
	if len(positions) == 0 {
		return []string{position}, nil
	}
	if position == "" {
		sh.mu.Lock()
		sh.own = positions[0]
		sh.mu.Unlock()
	}
	for _, value := range slices.Concat(here, ahead) {
		sh.forget(value.key)
	}
	sh.state.remember(positions...)
	return positions, nil
}

// errDisputed tells of a master that sends clients on with a slot which the
// cluster says is its own. It is shown only where that stays so.
func errDisputed(slot int, addr string, err error) error {
	return fmt.Errorf("the masters do not agree on who serves the slot %d, which is %s's in the cluster's layout: see redis-cli --cluster check, and mend it (redis-cli --cluster fix): %w", slot, addr, err)
}

// storedValue is what one key holds.
type storedValue struct{ key, text string }

// find looks for positions in each of a master's slots: here are those that
// exist, ahead those that have gone on with a part of their slot already.
func (s *Sink) find(ctx context.Context, sh *shard) (here, ahead []storedValue, err error) {
	for some := range slices.Chunk(s.seen.Load().slotsOf(sh.address()), keysPerPipeline) {
		replies := make([]*redis.StringCmd, len(some))
		_ = sh.ask(func(client *redis.Client) error {
			pipe := client.Pipeline()
			for i, slot := range some {
				replies[i] = pipe.Get(ctx, s.keyIn(slot))
			}
			_, err := pipe.Exec(ctx)
			return err // that of the first reply; each is read by itself
		})
		for i, reply := range replies {
			key := s.keyIn(some[i])
			switch value, err := reply.Result(); {
			case err == nil:
				here = append(here, storedValue{key, value})
			case redirect(err, "ASK ") != "":
				value, err := s.getAsked(ctx, redirect(err, "ASK "), key)
				if err != nil {
					return nil, nil, fmt.Errorf("read %s where its slot is on its way to: %w", key, errors.Join(err, errAllMoving))
				}
				if value != "" {
					ahead = append(ahead, storedValue{key, value})
				}
			case redirect(err, "MOVED ") != "":
				return nil, nil, errDisputed(some[i], sh.address(), err)
			case !errors.Is(err, redis.Nil):
				return nil, nil, err
			}
		}
	}
	return here, ahead, nil
}

// getAsked reads a key of a slot that is on its way, where it is going to; ""
// for none.
func (s *Sink) getAsked(ctx context.Context, addr, key string) (string, error) {
	client := redis.NewClient(s.cfg.options(addr, func() {}))
	value, err := askOnce(ctx, client, func(pipe redis.Pipeliner) *redis.StringCmd { return pipe.Get(ctx, key) }).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return value, err
}
