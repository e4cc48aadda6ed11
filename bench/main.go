// Bench compares reads through pkg/cacheaside with plain commands and with other libraries, side by side: all contestants
// take turns, each figure is the median of the rounds.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/seed-038af1a6/invalidator/bench/internal/report"
	"github.com/seed-038af1a6/invalidator/bench/internal/server"
)

type config struct {
	only   *regexp.Regexp
	rounds int
	d      time.Duration
	write  string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) //nolint:forbidigo // a program begins here
	defer stop()
	if err := run(ctx, flags()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func flags() config {
	var c config
	only := flag.String("run", "", "do only the `cells` that this matches, such as 'hit/256 B/1,024/64'")
	flag.IntVar(&c.rounds, "rounds", 7, "how often each contestant does each cell")
	flag.DurationVar(&c.d, "d", 100*time.Millisecond, "how long a contestant does a cell in one round")
	flag.StringVar(&c.write, "write", "", "put the tables into this `file` as well")
	quick := flag.Bool("quick", false, "256 B, 1 and 64 goroutines only")
	flag.Parse()
	if *quick {
		*only = "/256 B/.*/(1|64)$"
	}
	var err error
	if c.only, err = regexp.Compile(*only); err != nil {
		fmt.Fprintln(os.Stderr, "bench: -run:", err)
		os.Exit(2)
	}
	return c
}

func run(ctx context.Context, c config) error {
	addr, err := server.Addr()
	if err != nil {
		return err
	}
	rdb := newClient(addr)
	defer rdb.Close()
	version, err := server.Version(ctx, rdb)
	if err != nil {
		return err
	}
	all, err := contestants(addr)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("Redis %s and the program on the same machine, %s, %d processors; %d rounds of %s.\n",
		version, runtime.Version(), runtime.GOMAXPROCS(0), c.rounds, c.d)
	var tables []*table
	for _, cell := range cells() {
		if !c.only.MatchString(cell.name()) {
			continue
		}
		fmt.Fprintln(os.Stderr, cell.name())
		results, err := compare(ctx, rdb, cell, all, c.rounds, c.d)
		if err != nil {
			return err
		}
		if len(tables) == 0 || tables[len(tables)-1].work != cell.work {
			tables = append(tables, &table{work: cell.work})
		}
		tables[len(tables)-1].add(cell, results)
	}
	return output(text, tables, c.write)
}

func output(text string, tables []*table, path string) error {
	var b strings.Builder
	b.WriteString(text)
	for _, t := range tables {
		b.WriteString("\n" + t.String())
	}
	if _, err := os.Stdout.WriteString(b.String()); err != nil || path == "" {
		return err
	}
	return report.Replace(path, "bench", b.String())
}
