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
	all := s.current()
	for _, before := range all {
		before.close()
		if at := slices.Index(in.masters, before.address()); at >= 0 {
			shards[at].follows(before)
		} else {
			s.inherit(in, before, all)
		}
	}
	s.replace(shards)
	positions, errs := make([][]string, len(shards)), make([]error, len(shards))
	var reads sync.WaitGroup
	for i, sh := range shards {
		reads.Go(func() {
			errs[i] = s.persist(ctx, sh, "read the position", func() (err error) {
				positions[i], err = s.readAll(ctx, sh)
				return err
			})
			if errors.Is(errs[i], errBehind) {
				errs[i], positions[i] = nil, nil
			}
		})
	}
	reads.Wait()
	var err error
	for _, failed := range errs {
		err = worse(err, failed)
	}
	if err == nil && s.seen.Load() != in {
		err = errMoved // a position may have moved from a master to one that was read before
	}
	return slices.Concat(positions...), err
}

// inherit notes what is owed to a master that is gone. Its replica has the
// position that it had. But where one of the other masters serves its slots now,
// what it missed since it was left behind was deleted nowhere, and no position
// that can be read tells that.
func (s *Sink) inherit(in *layout, gone *shard, all []*shard) {
	heir := in.ownerOf(max(gone.at.Load().slot, 0))
	if gone.state.isBehind() && slices.ContainsFunc(all, func(sh *shard) bool { return sh.address() == heir }) {
		s.mu.Lock()
		s.owed = append(s.owed, gone.state.known()...)
		s.mu.Unlock()
	}
	if gone.state.works() {
		s.working(s.partOf(gone)) // nobody waits for it any more
	}
}

// owes returns the positions that are owed to masters that are gone.
func (s *Sink) owes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.owed)
}

// forgetOwed forgets what was owed: a position that is no newer is stored by now.
func (s *Sink) forgetOwed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owed = nil
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
	for left := s.seen.Load().slotsOf(sh.address()); len(left) > 0; {
		some := left[:min(len(left), sh.size.get())]
		left = left[len(some):]
		replies := make([]*redis.StringCmd, len(some))
		err := sh.ask(func(client *redis.Client) error {
			pipe := client.Pipeline()
			for i, slot := range some {
				replies[i] = pipe.Get(ctx, s.keyIn(slot))
			}
			_, err := pipe.Exec(ctx)
			return err // that of the first reply; each is read by itself
		})
		if errors.Is(err, redis.Nil) {
			err = nil
		}
		sh.size.learn(len(some), err)
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
