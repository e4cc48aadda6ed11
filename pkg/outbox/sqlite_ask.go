package outbox

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"
)

//go:embed sql/sqlite_waiting.sql
var sqliteWaitingSQL string

//go:embed sql/sqlite_rewind.sql
var sqliteRewindSQL string

func (l *sqliteLog) identity(ctx context.Context) (string, error) {
	now, err := l.last(ctx)
	return now.DB, l.explain(err)
}

func (l *sqliteLog) now(ctx context.Context) (string, error) {
	now, err := l.last(ctx)
	return now.String(), l.explain(err)
}

func (l *sqliteLog) checkPosition(text string) error {
	if _, err := parseSQLitePosition(strings.TrimSpace(text)); err != nil {
		return fmt.Errorf("%q is no position of an SQLite outbox: give one as \"invalidator position show\" prints it", shorten(text))
	}
	return nil
}

func (l *sqliteLog) completePosition(ctx context.Context, text string, stored []string) (string, error) {
	limit, err := l.limit(ctx, stored)
	if err != nil {
		return "", err
	}
	at, reason, err := l.resume(ctx, []string{strings.TrimSpace(text)})
	switch {
	case err != nil:
		return "", l.explain(err)
	case reason != "":
		return "", errors.New(reason)
	case len(stored) > 0 && at.ID > limit.ID:
		return "", errNewer
	}
	return at.String(), nil
}

// limit returns the newest position that a replay may begin at: the oldest of
// the stored ones, or the log's end where no cache was asked.
func (l *sqliteLog) limit(ctx context.Context, stored []string) (sqlitePosition, error) {
	if len(stored) == 0 {
		now, err := l.last(ctx)
		return now, l.explain(err)
	}
	at, reason, err := l.resume(ctx, stored)
	switch {
	case err != nil:
		return at, l.explain(err)
	case reason != "":
		return at, fmt.Errorf("%w: %s", errUnusable, reason)
	}
	return at, nil
}

func (l *sqliteLog) rewind(ctx context.Context, back time.Duration, stored []string) (string, error) {
	limit, err := l.limit(ctx, stored)
	if err != nil {
		return "", err
	}
	begin := sqlitePosition{DB: limit.DB}
	var pruned bool
	err = l.db.QueryRowContext(ctx, sqliteRewindSQL, time.Now().Add(-back).UnixMilli()).Scan(&begin.ID, &begin.Token, &pruned)
	switch {
	case err != nil:
		return "", fmt.Errorf("look for the rows of that time: %w", err)
	case pruned:
		return "", fmt.Errorf("the row before those of that time was pruned: rows are kept for %s: ask for less, or purge", l.source.retention)
	case begin.ID < limit.ID:
		return begin.String(), nil
	}
	return limit.String(), nil
}

func (l *sqliteLog) lag(ctx context.Context, applied string) (lag Lag, err error) {
	at, err := parseSQLitePosition(applied)
	if err != nil {
		return lag, err
	}
	err = l.db.QueryRowContext(ctx, sqliteWaitingSQL, at.ID, waitingRows).Scan(&lag.Transactions, &lag.Bytes)
	return lag, l.explain(err)
}
