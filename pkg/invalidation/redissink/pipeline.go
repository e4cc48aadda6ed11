package redissink

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	// keysPerPipeline bounds how long Redis works on one pipeline, and how
	// much is deleted again after a connection broke.
	keysPerPipeline = 4096
	keysPerUnlink   = 256
)

// delete sends one pipeline: the deletes and then, on the same connection, the
// compare-and-set of the position's value. The position that it stores is the
// one that earlier pipelines have earned, never this one's.
func (s *Sink) delete(ctx context.Context, keys []string) error {
	if s.trying == "" {
		s.trying = newValue(s.applied)
	}
	pipe := s.client.Pipeline()
	for first := 0; first < len(keys); first += keysPerUnlink {
		pipe.Unlink(ctx, keys[first:min(first+keysPerUnlink, len(keys))]...)
	}
	// Where Redis has forgotten the script, settle loads it and asks for the
	// whole pipeline again.
	cas := pipe.EvalSha(ctx, s.script.Hash(), []string{s.key}, s.last, s.trying)
	replies, _ := pipe.Exec(ctx) // the error is that of the first reply; each is read below
	if err := s.settle(ctx, cas); err != nil {
		return err
	}
	for _, reply := range replies[:len(replies)-1] {
		if err := reply.Err(); err != nil {
			return fmt.Errorf("%s: %w", reply.Name(), err)
		}
	}
	return nil
}

// settle reads the reply to the compare-and-set.
func (s *Sink) settle(ctx context.Context, cas *redis.Cmd) error {
	reply, err := cas.Result()
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT"):
		if err := s.script.Load(ctx, s.client).Err(); err != nil {
			return fmt.Errorf("load the position script: %w", err)
		}
		return errAgain
	case errors.Is(err, redis.Nil):
		return s.missing(ctx)
	case err != nil:
		return fmt.Errorf("save the position: %w", err)
	}
	if written, ok := reply.(int64); !ok || written != 1 {
		s.known = false
		return fmt.Errorf("save the position: %w", invalidation.ErrResume)
	}
	if on := s.connections.Load(); on != s.seenOn {
		s.server, s.seenOn = s.identity(ctx), on
	}
	s.last, s.trying = s.trying, ""
	return nil
}

// missing decides what it means that the position is gone. On the connection
// and the server that it was written to, Redis evicted it or was flushed, and
// it is written again. Otherwise deletes may be lost with it.
func (s *Sink) missing(ctx context.Context) error {
	if s.connections.Load() == s.seenOn && s.identity(ctx) == s.server && s.connections.Load() == s.seenOn {
		s.last = ""
		return errAgain
	}
	s.known = false
	return fmt.Errorf("the position is gone: %w", invalidation.ErrResume)
}

// identity returns what changes when the server restarts or takes over the
// data of another one; "" where it does not tell.
func (s *Sink) identity(ctx context.Context) string {
	var id strings.Builder
	for _, section := range []string{"server", "replication"} {
		text, err := s.client.Info(ctx, section).Result()
		if err != nil {
			continue
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "run_id:") || strings.HasPrefix(line, "master_replid:") {
				id.WriteString(strings.TrimSpace(line))
				id.WriteByte(' ')
			}
		}
	}
	return id.String()
}
