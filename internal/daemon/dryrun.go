package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// longestValue is how many bytes of a column's value a dry run prints.
const longestValue = 64

// printer writes whole lines, one at a time.
type printer struct {
	mu  sync.Mutex
	out io.Writer
}

func (p *printer) line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.out, text+"\n") // a reader that left ends the program by its signal
}

// dryRunMapper prints each row with its keys, in full: the operator asked.
type dryRunMapper struct {
	*invalidation.Rules

	printer *printer
}

// Keys implements invalidation.KeyMapper.
func (m dryRunMapper) Keys(dst []string, row invalidation.Row) ([]string, error) {
	keys, err := m.Rules.Keys(dst, row)
	outcome := list(keys[len(dst):])
	if err != nil {
		patterns := m.Patterns(nil, row.Schema, row.Table)
		outcome = "purge " + list(patterns) + " (" + err.Error() + ")"
	}
	m.printer.line(fmt.Sprintf("%s %s.%s%s → %s", row.Op, row.Schema, row.Table, describe(row), outcome))
	return keys, err
}

// describe shows the columns of a row: for an update the first one, which
// tends to tell which row it is, and those that changed.
func describe(row invalidation.Row) string {
	image := row.After
	if row.Op == invalidation.Delete {
		image = row.Before
	}
	var b strings.Builder
	for i, col := range image {
		before, isUpdate := row.Before.Get(col.Name)
		isUpdate = isUpdate && row.Op == invalidation.Update
		same := before.State == col.State && string(before.Value) == string(col.Value)
		switch {
		case isUpdate && col.State != invalidation.Absent && !same:
			fmt.Fprintf(&b, " %s=%s→%s", col.Name, show(before), show(col))
		case isUpdate && i == 0:
			if col.State == invalidation.Absent {
				col = before
			}
			fmt.Fprintf(&b, " %s=%s", col.Name, show(col))
		case !isUpdate && col.State != invalidation.Absent:
			fmt.Fprintf(&b, " %s=%s", col.Name, show(col))
		}
	}
	return b.String()
}

func show(col invalidation.Column) string {
	switch col.State {
	case invalidation.Null:
		return "NULL"
	case invalidation.Absent:
		return "?"
	case invalidation.Present:
	}
	value := string(col.Value[:min(len(col.Value), longestValue)])
	cut := len(col.Value) > longestValue
	if cut {
		value = strings.ToValidUTF8(value, "")
	}
	value = printable(value)
	if cut {
		value += "…"
	}
	return value
}

// printable quotes what would be hard to tell apart, or would steer a terminal.
func printable(text string) string {
	odd := func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsGraphic(r) || unicode.IsSpace(r) }
	if text == "" || strings.ContainsFunc(text, odd) {
		return strconv.Quote(text)
	}
	return text
}

func list(keys []string) string {
	if len(keys) == 0 {
		return "nothing"
	}
	shown := make([]string, len(keys))
	for i, key := range keys {
		shown[i] = printable(key)
	}
	return strings.Join(shown, " ")
}

// observe prints the changes that have no rows to print, such as DDL.
func (m dryRunMapper) observe(e invalidation.Event) {
	if e.Kind != invalidation.Incomplete || errors.Is(e.Err, invalidation.ErrIncomplete) {
		return
	}
	schema, table, _ := strings.Cut(e.Text, ".")
	m.printer.line(fmt.Sprintf("%s %s → purge %s", e.Text, errorText(e.Err), list(m.Patterns(nil, schema, table))))
}

// dryRunSink deletes nothing and remembers nothing. It prints the keys of an
// outbox, which no mapper has printed.
type dryRunSink struct {
	source  string
	rows    bool // the source has rows, so keys are printed with them
	printer *printer
}

// Positions implements invalidation.Sink.
func (s dryRunSink) Positions(context.Context) ([]string, error) { return []string{""}, nil }

// Apply implements invalidation.Sink.
func (s dryRunSink) Apply(_ context.Context, b invalidation.Batch) error {
	if len(b.Keys) > 0 && !s.rows {
		s.printer.line(s.source + " → " + list(b.Keys))
	}
	return nil
}
