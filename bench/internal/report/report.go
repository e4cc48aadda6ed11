// Package report makes Markdown tables and keeps the ones in the documentation current.
package report

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Table renders rows under header; all columns but the first left ones are aligned to the right.
func Table(left int, header []string, rows [][]string) string {
	var b strings.Builder
	line(&b, header)
	rule := make([]string, len(header))
	for i := range rule {
		rule[i] = "---"
		if i >= left {
			rule[i] = "---:"
		}
	}
	line(&b, rule)
	for _, row := range rows {
		line(&b, row)
	}
	return b.String()
}

func line(b *strings.Builder, cells []string) {
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

// Replace puts text between the lines <!-- name --> and <!-- /name --> of the file at path.
func Replace(path, name, text string) error {
	old, err := os.ReadFile(path) //nolint:gosec // the caller names the file
	if err != nil {
		return fmt.Errorf("rewrite a table: %w", err)
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->\n"
	before, rest, found := strings.Cut(string(old), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return fmt.Errorf("rewrite a table: %s has no %q followed by %q", path, begin, end)
	}
	text = before + begin + "\n" + strings.TrimSpace(text) + "\n\n" + end + after
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // documentation
		return fmt.Errorf("rewrite a table: %w", err)
	}
	return nil
}

// Median returns the middle one of values, of which there is at least one.
func Median[T cmp.Ordered](values []T) T {
	return Quantile(values, 0.5)
}

// Quantile returns the one of values, of which there is at least one, that is nearest to the share q of their order.
func Quantile[T cmp.Ordered](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted)-1)+0.5), len(sorted)-1)]
}
