package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
	"github.com/seed-038af1a6/invalidator/pkg/outbox"
)

const (
	// lastKey is enqueued after the last write. The relay works in the
	// log's order, so all deletes before it are done when this one is.
	lastKey = "demo:last"
	// retention keeps the outbox of a demo that runs for hours small.
	retention = time.Minute
	// patience bounds the wait for the relay at the end.
	patience = 30 * time.Second
)

// relay is the daemon's part: outbox to Redis.
type relay struct {
	db    *database
	sink  *redissink.Sink
	stop  context.CancelFunc
	first chan struct{} // closed when it knows where to begin
	last  chan struct{} // closed when lastKey was deleted
	ended chan struct{}
	err   error // why it ended; read it after ended
}

// startRelay starts it in the background, until close.
func startRelay(ctx context.Context, redisAddr string, audit *auditor) (*relay, error) {
	sink, err := redissink.New(redissink.Config{
		Redis: &redis.UniversalOptions{Addrs: []string{redisAddr}}, Namespace: "demo", Source: "users",
	})
	if err != nil {
		return nil, err
	}
	r := &relay{db: audit.db, sink: sink, first: make(chan struct{}), last: make(chan struct{}), ended: make(chan struct{})}
	source, err := outbox.NewSQLite(outbox.SQLiteConfig{
		DB: audit.db.read, Sink: &countingSink{Sink: sink, audit: audit, first: r.first, last: r.last},
		Purge: []string{userPrefix + "*"}, Retention: retention,
	})
	if err != nil {
		return nil, errors.Join(err, sink.Close())
	}
	// It goes on after ctx is done: what was enqueued by then is applied.
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(r.ended)
		both, ctx := errgroup.WithContext(ctx)
		both.Go(func() error { return sink.Run(ctx) })
		both.Go(func() error {
			err := source.Run(ctx)
			for errors.Is(err, invalidation.ErrResume) {
				err = source.Run(ctx)
			}
			return err
		})
		r.err = both.Wait()
	}()
	return r, nil
}

// begin waits until the relay reads the outbox. On a cache that is new to it,
// it purges first; a lastKey that is older than that would never come.
func (r *relay) begin(ctx context.Context) error {
	select {
	case <-r.first:
		return nil
	case <-r.ended:
		return fmt.Errorf("the relay ended: %w", r.err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watch returns when ctx is done, or before that with the relay's error.
func (r *relay) watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.ended:
		return fmt.Errorf("the relay ended: %w", r.err)
	}
}

// finish waits until everything that was enqueued is deleted.
func (r *relay) finish(ctx context.Context) error {
	if err := r.db.enqueue(ctx, lastKey); err != nil {
		return err
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-r.last:
		return nil
	case <-r.ended:
		return fmt.Errorf("the relay ended: %w", r.err)
	case <-late.C:
		return fmt.Errorf("the relay has not applied everything within %v", patience)
	}
}

func (r *relay) close() error {
	r.stop()
	<-r.ended
	return r.sink.Close()
}

// countingSink counts the stale values that the Sink deletes.
type countingSink struct {
	invalidation.Sink

	audit *auditor
	first chan<- struct{} // nil after it was closed, as last
	last  chan<- struct{}
}

// Apply implements invalidation.Sink.
func (s *countingSink) Apply(ctx context.Context, b invalidation.Batch) error {
	stale, err := s.staleAmong(ctx, b.Keys)
	if err != nil {
		return err
	}
	if err := s.Sink.Apply(ctx, b); err != nil {
		return err
	}
	s.count(stale)
	if s.first != nil && b.Position != "" {
		close(s.first)
		s.first = nil
	}
	if s.last != nil && slices.Contains(b.Keys, lastKey) {
		close(s.last)
		s.last = nil
	}
	return nil
}

// Stored tells the source what it may prune.
func (s *countingSink) Stored() []string {
	if sink, ok := s.Sink.(interface{ Stored() []string }); ok {
		return sink.Stored()
	}
	return nil
}

func (s *countingSink) staleAmong(ctx context.Context, keys []string) ([]staleEntry, error) {
	var ids []int
	for _, key := range keys {
		if id, ok := userID(key); ok {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return s.audit.stale(ctx, ids, false)
}

// count leaves out entries whose writer was about to delete them as well.
func (s *countingSink) count(stale []staleEntry) {
	now := time.Now()
	s.audit.counts.change(func(n *numbers) {
		for _, e := range stale {
			if e.settled {
				n.repaired++
				n.maxAge = max(n.maxAge, now.Sub(e.since))
			}
		}
	})
}
