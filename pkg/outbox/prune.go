package outbox

import (
	"context"
	_ "embed"
	"fmt"
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
	now, err := s.moment(ctx)
	if err != nil {
		return 0, err
	}
	at, reason, err := s.resume(ctx, stored, now, false)
	if err != nil || reason != "" {
		return 0, err // the relay finds out as well, and needs every row
	}
	below := at.Snapshot.xmin
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
