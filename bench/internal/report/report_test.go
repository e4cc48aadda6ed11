package report_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-038af1a6/invalidator/bench/internal/report"
)

func TestATableIsReplacedBetweenItsMarkers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "doc.md")
	write(t, path, "before\n<!-- x -->\nold\n<!-- /x -->\nafter\n")
	if err := report.Replace(path, "x", "| new |\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n<!-- x -->\n\n| new |\n\n<!-- /x -->\nafter\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAFileWithoutMarkersIsLeftAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "doc.md")
	write(t, path, "no markers\n")
	if err := report.Replace(path, "x", "new"); err == nil {
		t.Error("want an error")
	}
}

func TestQuantilesAreValuesOfTheSample(t *testing.T) {
	t.Parallel()
	values := []int{5, 1, 4, 2, 3}
	for q, want := range map[float64]int{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := report.Quantile(values, q); got != want {
			t.Errorf("Quantile(%v) = %d, want %d", q, got, want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
