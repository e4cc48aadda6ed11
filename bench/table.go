package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/seed-038af1a6/invalidator/bench/internal/report"
)

// table collects the lines of one kind of work.
type table struct {
	work string
	rows [][]string
}

func (t *table) add(c cell, results []result) {
	plain, rockscache := timeOf(results, plainGET), timeOf(results, rocks)
	for _, r := range results {
		by, cells := r.by, []string{bytesText(c.payload), c.keysText(), strconv.Itoa(c.goroutines)}
		if strings.HasPrefix(r.by, ours) {
			by = "**" + r.by + "**"
		}
		t.rows = append(t.rows, append(cells, by,
			fmt.Sprintf("%.1f", r.time), ratio(r.time, plain), ratio(r.time, rockscache),
			fmt.Sprintf("%.0f", r.allocs), fmt.Sprintf("%.2f", r.cpu)))
	}
}

func timeOf(results []result, by string) float64 {
	for _, r := range results {
		if r.by == by {
			return r.time
		}
	}
	return 0
}

func ratio(a, b float64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

func (t *table) String() string {
	header := []string{"payload", "keys", "goroutines", "", "µs/op", "÷ GET", "÷ rockscache", "allocs/op", "Redis CPU µs/op"}
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", strings.ToUpper(t.work[:1])+t.work[1:])
	b.WriteString(report.Table(4, header, t.rows))
	return b.String()
}
