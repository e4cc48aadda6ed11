package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/bench/internal/report"
	"github.com/seed-038af1a6/invalidator/bench/internal/server"
)

// sample is one round of a task, per operation.
type sample struct {
	time   float64 // wall clock of all goroutines together, µs
	allocs float64
	cpu    float64 // of Redis, µs
}

// result is one contestant's in a cell: the median of each figure.
type result struct {
	by string
	sample
}

// compare lets all contestants that offer a cell do it in turn, round after round.
func compare(ctx context.Context, rdb *redis.Client, c cell, all []contestant, rounds int, d time.Duration) (_ []result, err error) {
	var tasks []*task
	for _, by := range all {
		if c.offered(by) {
			tasks = append(tasks, newTask(c, by))
		}
	}
	for _, t := range tasks {
		if err := t.fill(ctx); err != nil {
			return nil, err
		}
	}
	samples := make([][]sample, len(tasks))
	for round := range rounds {
		for i := range tasks {
			i = (i + round) % len(tasks) // nobody always comes after the same one
			s, err := tasks[i].measure(ctx, rdb, d)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", tasks[i].by.name, c.name(), err)
			}
			samples[i] = append(samples[i], s)
		}
	}
	results := make([]result, len(tasks))
	for i, t := range tasks {
		results[i] = result{t.by.name, medians(samples[i])}
		if err := t.forget(ctx, rdb); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// measure does the task for d, after a tenth of that to warm up.
func (t *task) measure(ctx context.Context, rdb *redis.Client, d time.Duration) (sample, error) {
	if _, err := t.do(ctx, d/10); err != nil {
		return sample{}, err
	}
	runtime.GC()
	before, err := server.CPU(ctx, rdb)
	if err != nil {
		return sample{}, err
	}
	allocs, start := mallocs(), time.Now()
	n, err := t.do(ctx, d)
	if err != nil {
		return sample{}, err
	}
	took, made := time.Since(start), mallocs()-allocs
	after, err := server.CPU(ctx, rdb)
	if err != nil {
		return sample{}, err
	}
	if t.keys == 0 {
		err = t.forget(ctx, rdb)
	}
	ops := float64(n)
	return sample{micros(took) / ops, float64(made) / ops, micros(after-before) / ops}, err
}

// do lets the task's goroutines run for d and returns how many operations they did.
func (t *task) do(ctx context.Context, d time.Duration) (int, error) {
	till := time.Now().Add(d)
	var (
		wg   sync.WaitGroup
		done = make([]int, t.goroutines)
		errs = make([]error, t.goroutines)
	)
	for g := range t.goroutines {
		wg.Go(func() {
			operation := t.operation()
			n := 0
			for errs[g] == nil && (n == 0 || time.Now().Before(till)) {
				errs[g] = operation(ctx)
				n++
			}
			done[g] = n
		})
	}
	wg.Wait()
	total := 0
	for g, n := range done {
		if errs[g] != nil {
			return 0, errs[g]
		}
		total += n
	}
	return total, ctx.Err()
}

func mallocs() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Mallocs
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func medians(samples []sample) sample {
	column := func(of func(sample) float64) float64 {
		values := make([]float64, len(samples))
		for i, s := range samples {
			values[i] = of(s)
		}
		return report.Median(values)
	}
	return sample{
		time:   column(func(s sample) float64 { return s.time }),
		allocs: column(func(s sample) float64 { return s.allocs }),
		cpu:    column(func(s sample) float64 { return s.cpu }),
	}
}
