package redissink

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// Parked is a key whose delete Redis refuses for good.
type Parked struct {
	Key   string    `json:"key"`
	Error string    `json:"error"`
	Since time.Time `json:"since"`
}

// park remembers keys that can not be deleted, beside the position and as
// durable: the same pipeline ends with the compare-and-set.
func (s *Sink) park(ctx context.Context, sh *shard, keys []string, why error) error {
	about, err := json.Marshal(Parked{Error: why.Error(), Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	args := []any{s.cfg.MaxParked, about}
	for _, key := range keys {
		args = append(args, key)
	}
	var reply *redis.Cmd
	err = sh.send(ctx, func(pipe redis.Pipeliner) {
		reply = s.scripts.of(s.scripts.parked).Eval(ctx, pipe, []string{s.parkedIn(sh.at.Load().slot)}, args...)
	})
	if err != nil {
		return err
	}
	counts, err := reply.Int64Slice()
	switch {
	case err != nil:
		return fmt.Errorf("park a key: %w", err)
	case len(counts) != 2:
		return fmt.Errorf("park a key: unexpected reply %v", counts)
	}
	held, added := int(counts[0]), int(counts[1])
	full := held < 0
	if full {
		held = s.cfg.MaxParked
	}
	if added > 0 || !full {
		s.observe(invalidation.Event{Kind: invalidation.Parked, Part: invalidation.PartCache, Count: held, Keys: added, Err: why})
	}
	if full {
		return fmt.Errorf("more than %d keys can not be deleted and none more is parked: look at them with \"invalidator parked\", mend what refuses them and retry them, or forget them with \"invalidator parked --drop\": %w", s.cfg.MaxParked, why)
	}
	return nil
}

// parkedIn returns the key of the parked keys in a slot.
func (s *Sink) parkedIn(slot int) string {
	if slot < 0 {
		return s.cfg.parkedKey()
	}
	return s.cfg.parkedKey() + slotTags()[slot]
}

// Parked lists the keys that Redis refused to delete.
func (s *Sink) Parked(ctx context.Context) ([]Parked, error) {
	var all []Parked
	err := s.eachParked(ctx, func(_ string, entries map[string]string) error {
		for key, about := range entries {
			p := Parked{Error: about}
			_ = json.Unmarshal([]byte(about), &p) // else what stands there is shown
			p.Key = key
			all = append(all, p)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Parked) int { return a.Since.Compare(b.Since) })
	return all, err
}

// eachParked calls do with every hash of parked keys that exists.
func (s *Sink) eachParked(ctx context.Context, do func(hash string, entries map[string]string) error) error {
	hashes := []string{s.parkedIn(-1)}
	if s.cfg.Redis.IsClusterMode {
		hashes = hashes[:0]
		for slot := range slots {
			hashes = append(hashes, s.parkedIn(slot))
		}
	}
	for some := range slices.Chunk(hashes, keysPerPipeline) {
		lengths := make([]*redis.IntCmd, len(some))
		_, err := s.lease.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i, hash := range some {
				lengths[i] = pipe.HLen(ctx, hash)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read the parked keys: %w", err)
		}
		for i, hash := range some {
			if lengths[i].Val() == 0 {
				continue
			}
			entries, err := s.lease.client.HGetAll(ctx, hash).Result()
			if err != nil {
				return fmt.Errorf("read the parked keys: %w", err)
			}
			if err := do(hash, entries); err != nil {
				return err
			}
		}
	}
	return nil
}

// Unpark deletes parked keys again, all where none is named, and forgets those
// that Redis deleted now. It returns how many those are.
func (s *Sink) Unpark(ctx context.Context, keys ...string) (deleted int, err error) {
	if err := s.take(ctx); err != nil {
		return 0, err
	}
	defer s.give()
	if err := s.ready(); err != nil {
		return 0, err
	}
	err = s.eachParked(ctx, func(hash string, entries map[string]string) error {
		some := chosen(entries, keys)
		refused := &tally{group: s.cfg.Group, counts: map[string]*count{}}
		if err := s.delete(ctx, some, refused); err != nil {
			return s.stop(err)
		}
		gone := slices.DeleteFunc(some, func(key string) bool { return slices.Contains(refused.left, key) })
		deleted += len(gone)
		if len(gone) == 0 {
			return nil
		}
		return s.lease.client.HDel(ctx, hash, gone...).Err()
	})
	if deleted > 0 {
		s.tellParked(ctx)
	}
	return deleted, err
}

// Forget drops parked keys, all where none is named, and returns how many those
// are. They are not deleted, and nothing remembers any more that they may be
// stale. It works while Apply waits because too many are parked.
func (s *Sink) Forget(ctx context.Context, keys ...string) (forgotten int, err error) {
	err = s.eachParked(ctx, func(hash string, entries map[string]string) error {
		some := chosen(entries, keys)
		if len(some) == 0 {
			return nil
		}
		gone, err := s.lease.client.HDel(ctx, hash, some...).Result()
		forgotten += int(gone)
		return err
	})
	if forgotten > 0 {
		s.observe(invalidation.Event{Kind: invalidation.Noted, Part: invalidation.PartCache, Text: fmt.Sprintf("%d parked keys were forgotten, not deleted", forgotten)})
		s.tellParked(ctx)
	}
	return forgotten, err
}

// tellParked tells how many keys are parked now: others may have come since
// those were read that are gone.
func (s *Sink) tellParked(ctx context.Context) {
	count := 0
	err := s.eachParked(ctx, func(_ string, entries map[string]string) error {
		count += len(entries)
		return nil
	})
	if err == nil { // else the next park tells, or who counts them with Parked
		s.observe(invalidation.Event{Kind: invalidation.Parked, Part: invalidation.PartCache, Count: count})
	}
}

// chosen returns which of the parked keys are named, all where none is.
func chosen(entries map[string]string, keys []string) []string {
	var some []string
	for key := range entries {
		if len(keys) == 0 || slices.Contains(keys, key) {
			some = append(some, key)
		}
	}
	return some
}
