// Strategies measures how reads of one hot key behave when its entry expires and when it is deleted, for each way of
// keeping it that pkg/cacheaside offers and for none.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/bench/internal/report"
	"github.com/seed-038af1a6/invalidator/bench/internal/server"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each strategy meets each event")
	write := flag.String("write", "", "put the table into this `file` as well")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) //nolint:forbidigo // a program begins here
	defer stop()
	if err := run(ctx, *rounds, *write); err != nil {
		fmt.Fprintln(os.Stderr, "strategies:", err)
		os.Exit(1)
	}
}

// run lets the strategies take turns, round after round.
func run(ctx context.Context, rounds int, path string) error {
	addr, err := server.Addr()
	if err != nil {
		return err
	}
	all := strategies()
	results := make([]result, len(all))
	for round := range rounds {
		for i, s := range all {
			fmt.Fprintf(os.Stderr, "%d/%d %s\n", round+1, rounds, s.name)
			expired, err := meet(ctx, addr, s, expiry)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			deleted, err := meet(ctx, addr, s, deletion)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			results[i].expiry = append(results[i].expiry, expired)
			results[i].deletion = append(results[i].deletion, deleted)
		}
	}
	text := render(all, results)
	if _, err := os.Stdout.WriteString(text); err != nil || path == "" {
		return err
	}
	return report.Replace(path, "strategies", text)
}

// meet runs one event with clients of its own and forgets the entry.
func meet(ctx context.Context, addr string, s strategy, e event) (_ outcome, err error) {
	var readers []reader
	for range processes {
		rdb := redis.NewClient(&redis.Options{Addr: addr, PoolSize: poolSize})
		defer rdb.Close()
		r, err := s.reader(rdb)
		if err != nil {
			return outcome{}, err
		}
		defer r.close()
		readers = append(readers, r)
	}
	if err := readers[0].remove(ctx); err != nil {
		return outcome{}, err
	}
	o, err := newTrial(readers).run(ctx, e)
	if err != nil {
		return outcome{}, err
	}
	return o, readers[0].remove(ctx)
}

// result has the outcomes of all rounds of one strategy.
type result struct {
	expiry, deletion []outcome
}

func render(all []strategy, results []result) string {
	header := []string{
		"strategy", "policy", "expiry: p50", "p99", "max", "loads", "oldest value served",
		"deletion: p50", "p99", "max", "loads", "stale reads", "stale for",
	}
	rows := make([][]string, len(all))
	for i, s := range all {
		e, d := summarize(results[i].expiry), summarize(results[i].deletion)
		rows[i] = []string{
			s.name, s.policyText,
			millis(e.p50), millis(e.p99), millis(e.max), strconv.FormatInt(e.loads, 10), millis(e.age),
			millis(d.p50), millis(d.p99), millis(d.max), strconv.FormatInt(d.loads, 10), strconv.Itoa(d.stale), millis(d.staleFor),
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d reads a second of one key by %d processes' clients, loads of %d to %d ms; TTL %s; %d rounds. Times in ms.\n\n",
		rate, processes, fastestLoad.Milliseconds(), slowestLoad.Milliseconds(), entryTTL, len(results[0].expiry))
	b.WriteString(report.Table(2, header, rows))
	return b.String()
}
