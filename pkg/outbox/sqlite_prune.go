package outbox

import (
	"context"
	_ "embed"
	"fmt"
	"time"
)

//go:embed sql/sqlite_prunable.sql
var sqlitePrunableSQL string

//go:embed sql/sqlite_prune_mark.sql
var sqlitePruneMarkSQL string

//go:embed sql/sqlite_prune.sql
var sqlitePruneSQL string

// prune leaves the row of the oldest stored position: its token proves that the
// database is still the same.
func (l *sqliteLog) prune(ctx context.Context, stored []string) (int, error) {
	at, reason, err := l.resume(ctx, stored)
	if err != nil || reason != "" {
		return 0, err // the relay finds out as well, and needs every row
	}
	before := time.Now().Add(-l.source.retention).UnixMilli()
	deleted := 0
	for {
		rows, err := l.pruneSome(ctx, at.ID, before)
		if deleted += rows; err != nil || rows < pruneRows {
			return deleted, err
		}
	}
}

func (l *sqliteLog) pruneSome(ctx context.Context, below, before int64) (int, error) {
	var found bool
	if err := l.db.QueryRowContext(ctx, sqlitePrunableSQL, below, before).Scan(&found); err != nil || !found {
		return 0, err
	}
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("prune: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it has nothing to do
	// The mark comes first: a transaction that begins with a write waits for
	// its turn, one that turns into a writer later is refused.
	if _, err := tx.ExecContext(ctx, sqlitePruneMarkSQL, below, before, pruneRows); err != nil {
		return 0, fmt.Errorf("prune: %w", err)
	}
	result, err := tx.ExecContext(ctx, sqlitePruneSQL, below, before, pruneRows)
	if err != nil {
		return 0, fmt.Errorf("prune: %w", err)
	}
	rows, err := result.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("prune: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return 0, fmt.Errorf("prune: %w", err)
	}
	return int(rows), nil
}
