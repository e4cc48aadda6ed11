// Purge measures what a purge by pattern costs others: how long reads of other clients, and deletes beside it, take while a
// million keys are looked at and deleted.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/bench/internal/report"
	"github.com/seed-038af1a6/invalidator/bench/internal/server"
)

func main() {
	keys := flag.Int("keys", 1_000_000, "how many keys the purge deletes")
	write := flag.String("write", "", "put the table into this `file` as well")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) //nolint:forbidigo // a program begins here
	defer stop()
	if err := run(ctx, *keys, *write); err != nil {
		fmt.Fprintln(os.Stderr, "purge:", err)
		os.Exit(1)
	}
}

// trials are what the reads are measured beside.
func trials() []trial {
	return []trial{
		{name: "no purge", rate: 0},
		{name: "purge, 20,000 keys/s (default)", pattern: "user:*", rate: 20_000},
		{name: "purge, 100,000 keys/s", pattern: "user:*", rate: 100_000},
		{name: "purge, no limit", pattern: "user:*", rate: -1},
		{name: "purge that matches nothing (default)", pattern: "nobody:*", rate: 20_000},
	}
}

func run(ctx context.Context, keys int, path string) error {
	addr, err := server.Addr()
	if err != nil {
		return err
	}
	rdb := redis.NewClient(&redis.Options{Addr: addr, PoolSize: readers})
	defer rdb.Close()
	var rows [][]string
	for _, tr := range trials() {
		fmt.Fprintln(os.Stderr, tr.name)
		if err := fill(ctx, rdb, keys); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
		out, err := tr.run(ctx, addr, rdb)
		if err != nil {
			return fmt.Errorf("%s: %w", tr.name, err)
		}
		rows = append(rows, out.row(tr.name))
	}
	text := fmt.Sprintf("%s keys and %s others; %d GETs a second by %d clients, a delete of %d keys every %s. Times in ms.\n\n",
		thousands(keys), thousands(others), readRate, readers, deleteKeys, deleteEvery) +
		report.Table(1, []string{"beside", "took (s)", "GET: p50", "p99", "max", "delete: p50", "p99", "max"}, rows)
	if _, err := os.Stdout.WriteString(text); err != nil || path == "" {
		return err
	}
	return report.Replace(path, "purge", text)
}

// fill stores what the purge deletes and what the readers read.
func fill(ctx context.Context, rdb *redis.Client, keys int) error {
	if err := rdb.FlushAll(ctx).Err(); err != nil {
		return err
	}
	value := strings.Repeat("v", 256)
	for first := 0; first < keys+others; first += 10_000 {
		_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i := first; i < min(first+10_000, keys+others); i++ {
				if i < others {
					pipe.Set(ctx, otherKey(i), value, 0)
				} else {
					pipe.Set(ctx, "user:"+strconv.Itoa(i), value, 0)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func otherKey(i int) string { return "other:" + strconv.Itoa(i) }

func thousands(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }
