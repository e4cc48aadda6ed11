package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/seed-038af1a6/invalidator/bench/internal/report"
)

// summarize takes the median of the rounds for latencies and loads, and the worst of them for what was served.
func summarize(rounds []outcome) outcome {
	return outcome{
		p50:      middle(rounds, func(o outcome) time.Duration { return o.p50 }),
		p99:      middle(rounds, func(o outcome) time.Duration { return o.p99 }),
		max:      middle(rounds, func(o outcome) time.Duration { return o.max }),
		loads:    middle(rounds, func(o outcome) int64 { return o.loads }),
		age:      worst(rounds, func(o outcome) time.Duration { return o.age }),
		stale:    worst(rounds, func(o outcome) int { return o.stale }),
		staleFor: worst(rounds, func(o outcome) time.Duration { return o.staleFor }),
	}
}

func middle[T cmp.Ordered](rounds []outcome, of func(outcome) T) T {
	return report.Median(column(rounds, of))
}

func worst[T cmp.Ordered](rounds []outcome, of func(outcome) T) T {
	return report.Quantile(column(rounds, of), 1)
}

func column[T any](rounds []outcome, of func(outcome) T) []T {
	values := make([]T, len(rounds))
	for i, o := range rounds {
		values[i] = of(o)
	}
	return values
}

func millis(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms < 10 {
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}
