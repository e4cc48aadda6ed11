package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/bench/internal/report"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

const (
	readers     = 8
	readRate    = 2000 // in a second, of all readers together
	others      = 10_000
	deleteKeys  = 10
	deleteEvery = 20 * time.Millisecond
	// baseline is how long reads are measured without a purge; longest ends one that hangs.
	baseline = 20 * time.Second
	longest  = 5 * time.Minute
)

// trial is one purge, or none.
type trial struct {
	name    string
	pattern string
	rate    int
}

type outcome struct {
	took           time.Duration
	reads, deletes []time.Duration
}

func (o outcome) row(name string) []string {
	quantiles := func(all []time.Duration) []string {
		return []string{millis(report.Quantile(all, 0.5)), millis(report.Quantile(all, 0.99)), millis(slices.Max(all))}
	}
	return slices.Concat([]string{name, fmt.Sprintf("%.1f", o.took.Seconds())}, quantiles(o.reads), quantiles(o.deletes))
}

// run measures until the purge is done.
func (tr trial) run(ctx context.Context, addr string, rdb *redis.Client) (out outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	done := make(chan struct{})
	sink, err := redissink.New(redissink.Config{
		Redis: &redis.UniversalOptions{Addrs: []string{addr}}, Namespace: "bench", Source: "purge", PurgeRate: tr.rate,
		Observer: invalidation.ObserverFunc(func(e invalidation.Event) {
			if e.Kind == invalidation.PurgeDone {
				close(done)
			}
		}),
	})
	if err != nil {
		return out, err
	}
	defer sink.Close()
	var all sync.WaitGroup
	running, stop := context.WithCancel(ctx)
	defer all.Wait()
	defer stop()
	all.Go(func() { _ = sink.Run(running) })
	if _, err := sink.Positions(ctx); err != nil {
		return out, err
	}
	started := time.Now()
	reads := make([][]time.Duration, readers)
	for i := range reads {
		all.Go(func() {
			reads[i] = pace(running, time.Second*readers/readRate, func(n int) error { return rdb.Get(running, otherKey(n%others)).Err() })
		})
	}
	all.Go(func() {
		keys := make([]string, deleteKeys)
		out.deletes = pace(running, deleteEvery, func(n int) error {
			for i := range keys {
				keys[i] = fmt.Sprint("gone:", n, ":", i)
			}
			return sink.Apply(running, invalidation.Batch{Keys: keys})
		})
	})
	if err := tr.await(ctx, sink, done); err != nil {
		return out, err
	}
	out.took = time.Since(started)
	stop()
	all.Wait()
	out.reads = slices.Concat(reads...)
	return out, nil
}

// await waits for the end of the purge, or of the time without one.
func (tr trial) await(ctx context.Context, sink *redissink.Sink, done <-chan struct{}) error {
	var end <-chan time.Time
	if tr.pattern == "" {
		end = time.After(baseline)
	} else if err := sink.Apply(ctx, invalidation.Batch{Patterns: []string{tr.pattern}}); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-end:
		return nil
	case <-ctx.Done():
		return errors.New("the purge did not end in time")
	}
}

// pace calls do every so often and returns how long each call took, counted from when it was due: a call that comes late
// because the one before was slow has waited too.
func pace(ctx context.Context, every time.Duration, do func(n int) error) (took []time.Duration) {
	due := time.Now()
	for n := 0; ; n++ {
		timer := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			timer.Stop()
			return took
		case <-timer.C:
		}
		if do(n) == nil {
			took = append(took, time.Since(due))
		}
		due = due.Add(every)
	}
}
