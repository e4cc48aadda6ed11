package redissink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// scanCount is how many keys one SCAN looks at: about a millisecond of Redis.
const scanCount = 1000

// errMoved: the scan can not go on where it stopped.
var errMoved = errors.New("the connection changed during the scan, which begins again")

// purge deletes every key that matches the pattern, but for the daemon's own.
// A scan that lost its connection may go on at another server, where its
// cursor means nothing, so retry starts it again at cursor 0.
func (s *Sink) purge(ctx context.Context, pattern string) error {
	size, err := s.client.DBSize(ctx).Result()
	if err != nil {
		return fmt.Errorf("count the keys: %w", err)
	}
	s.observePurge(invalidation.PurgeStarted, pattern, int(size))
	server, on := s.identity(ctx), s.connections.Load()
	var cursor uint64
	deleted := 0
	for {
		keys, next, err := s.client.Scan(ctx, cursor, pattern, scanCount).Result()
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		keys = s.withoutOwn(keys)
		started := time.Now()
		// One pipeline at the least, also without keys: it keeps the
		// compare-and-set going while the scan finds nothing.
		if err := s.deleteNow(ctx, keys); err != nil {
			return err
		}
		if s.connections.Load() != on {
			return errMoved
		}
		deleted += len(keys)
		if cursor = next; cursor == 0 {
			break
		}
		if len(keys) > 0 {
			s.observePurge(invalidation.PurgeProgress, pattern, deleted)
		}
		if err := s.throttle(ctx, len(keys), time.Since(started)); err != nil {
			return err
		}
	}
	if s.identity(ctx) != server || s.connections.Load() != on {
		return errMoved
	}
	s.observePurge(invalidation.PurgeDone, pattern, deleted)
	return nil
}

// deleteNow is delete with the repeats that it may ask for.
func (s *Sink) deleteNow(ctx context.Context, keys []string) error {
	for range 3 {
		if err := s.delete(ctx, keys); !errors.Is(err, errAgain) {
			return err
		}
	}
	return s.delete(ctx, keys)
}

func (s *Sink) withoutOwn(keys []string) []string {
	kept := keys[:0]
	for _, key := range keys {
		if !strings.HasPrefix(key, s.cfg.Namespace+":position:") {
			kept = append(kept, key)
		}
	}
	return kept
}

// throttle waits until deleting keys took as long as PurgeRate allows.
func (s *Sink) throttle(ctx context.Context, keys int, took time.Duration) error {
	if s.cfg.PurgeRate < 0 {
		return ctx.Err()
	}
	pause := time.Duration(keys)*time.Second/time.Duration(s.cfg.PurgeRate) - took
	if pause <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (s *Sink) observePurge(kind invalidation.Kind, pattern string, count int) {
	s.cfg.Observer.Observe(invalidation.Event{Kind: kind, Part: invalidation.PartCache, Text: pattern, Count: count})
}
