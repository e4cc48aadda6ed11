package outbox

import (
	"context"
	_ "embed"
	"fmt"
	"math"
)

//go:embed sql/prune.sql
var pruneSQL string

// pruneRows is how many rows one statement removes: little enough that nobody
// waits for its locks.
const pruneRows = 5000

// prune uses a connection of its own, so that the relay never waits for it.
func (l *postgresLog) prune(ctx context.Context, stored []string) (int, error) {
	s, err := l.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer s.close(ctx)
	below := uint64(math.MaxUint64)
	for _, text := range stored {
		at, err := parsePosition(text)
		if err != nil || s.System != at.System || s.Timeline != at.Timeline || !s.sameOutbox(at.home) {
			return 0, err // transaction ids mean something else here; the relay finds out as well
		}
		below = min(below, at.Snapshot.xmin)
	}
	deleted := 0
	// Deleted rows stay in the index until a vacuum, so each round begins
	// where the one before found its first row.
	for first := uint64(0); ; {
		rows, next, err := s.prune(ctx, first, below, l.source.retention.Seconds())
		if err != nil {
			return deleted, fmt.Errorf("prune: %w", err)
		}
		if deleted += rows; rows < pruneRows || next == nil {
			return deleted, nil
		}
		first = *next
	}
}

func (s *session) prune(ctx context.Context, first, below uint64, retention float64) (rows int, next *uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	err = s.conn.QueryRow(ctx, pruneSQL, first, below, retention, pruneRows).Scan(&rows, &next)
	return rows, next, err
}
