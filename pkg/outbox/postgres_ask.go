package outbox

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

//go:embed sql/identity.sql
var identitySQL string

//go:embed sql/rewind.sql
var rewindSQL string

//go:embed sql/waiting.sql
var waitingSQL string

// identity does not need the outbox, nor a primary: all servers of a cluster
// have the same.
func (l *postgresLog) identity(ctx context.Context) (string, error) {
	var errs []error
	for _, srv := range l.servers {
		id, err := l.identityOf(ctx, srv)
		if err == nil {
			return id, nil
		}
		errs = append(errs, l.explain(srv, err))
	}
	return "", joinLine(errs)
}

func (l *postgresLog) identityOf(ctx context.Context, srv server) (id string, err error) {
	cfg, err := l.config(srv)
	if err != nil {
		return "", err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer (&session{conn: conn}).close(ctx)
	return id, conn.QueryRow(ctx, identitySQL).Scan(&id)
}

// ask calls do with a session of its own.
func (l *postgresLog) ask(ctx context.Context, do func(*session) error) error {
	s, err := l.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if err := do(s); err != nil {
		return l.explain(s.server, err)
	}
	return nil
}

func (l *postgresLog) now(ctx context.Context) (text string, err error) {
	err = l.ask(ctx, func(s *session) error {
		if err := l.require(ctx, s); err != nil { // as Run does
			return err
		}
		at, err := s.end(ctx)
		text = at.String()
		return err
	})
	return text, err
}

// end returns the log's present end, once it is on disk: before, a crash would
// give its transaction ids to others.
func (s *session) end(ctx context.Context) (position, error) {
	now, err := s.moment(ctx)
	if err != nil {
		return position{}, err
	}
	for flushed := now.flushed; flushed < now.inserted; {
		if flushed, err = s.flushed(ctx, true); err != nil {
			return position{}, err
		}
	}
	return position{home: s.home, LSN: now.inserted, Snapshot: now.snapshot}, nil
}

func (l *postgresLog) checkPosition(text string) error {
	if _, err := parsePosition(strings.TrimSpace(text)); err != nil {
		return fmt.Errorf("%q is no position of a Postgres outbox: give one as \"invalidator position show\" prints it", shorten(text))
	}
	return nil
}

func (l *postgresLog) completePosition(ctx context.Context, text string, stored []string) (complete string, err error) {
	err = l.ask(ctx, func(s *session) error {
		now, err := s.moment(ctx)
		if err != nil {
			return err
		}
		at, reason, err := s.resume(ctx, []string{strings.TrimSpace(text)}, now, false)
		if err == nil && reason != "" {
			err = errors.New(reason)
		}
		complete = at.String()
		if err != nil || len(stored) == 0 {
			return err
		}
		limit, err := s.limit(ctx, stored)
		if err == nil && !at.within(limit) {
			err = errNewer
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return complete, nil
}

// rewind goes back to a snapshot without gaps: every transaction before the
// first row that is young enough has ended, or the position would be newer
// than itself for one that still runs.
func (l *postgresLog) rewind(ctx context.Context, back time.Duration, stored []string) (text string, err error) {
	err = l.ask(ctx, func(s *session) error {
		limit, err := s.limit(ctx, stored)
		if err != nil {
			return err
		}
		var first *uint64
		var prunedBelow uint64
		var reaches bool
		var oldest time.Time
		row := s.conn.QueryRow(ctx, rewindSQL, back.Seconds(), slowTransaction.Seconds(), l.source.retention.Seconds())
		switch err := row.Scan(&first, &prunedBelow, &reaches, &oldest); {
		case errors.Is(err, pgx.ErrNoRows):
			return invalidation.Fatal(errNoState)
		case err != nil:
			return fmt.Errorf("look for the rows of that time: %w", err)
		case !reaches:
			return fmt.Errorf("older rows were pruned: the oldest is of %s, and rows are kept for %s: ask for less, purge, or raise retention for the next time",
				oldest.UTC().Format(time.RFC3339), l.source.retention)
		}
		if begin := max(prunedBelow, deref(first)); first != nil && begin < limit.Snapshot.xmin {
			limit.Snapshot = snapshot{xmin: begin, xmax: begin}
			limit.Target, limit.After = nil, nil
		}
		text = limit.String()
		return nil
	})
	return text, err
}

// limit returns the newest position that a replay may begin at: behind what all
// stored ones cover, or the log's end where no cache was asked.
func (s *session) limit(ctx context.Context, stored []string) (position, error) {
	if len(stored) == 0 {
		return s.end(ctx)
	}
	now, err := s.moment(ctx)
	if err != nil {
		return position{}, err
	}
	at, reason, err := s.resume(ctx, stored, now, false)
	if err == nil && reason != "" {
		err = fmt.Errorf("%w: %s", errUnusable, reason)
	}
	return at, err
}

func deref(n *uint64) uint64 {
	if n == nil {
		return 0
	}
	return *n
}

func (l *postgresLog) lag(ctx context.Context, applied string) (lag Lag, err error) {
	at, err := parsePosition(applied)
	if err != nil {
		return lag, err
	}
	err = l.ask(ctx, func(s *session) (err error) {
		lag, err = s.lag(ctx, at)
		return err
	})
	return lag, err
}

// lag counts the rows that a position has not passed.
func (s *session) lag(ctx context.Context, at position) (lag Lag, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var target *string
	var after cursor
	if at.Target != nil {
		text := at.Target.String()
		target, after = &text, *at.After
	}
	row := s.conn.QueryRow(ctx, waitingSQL, at.Snapshot.String(), target, after.Txid, after.ID, at.Snapshot.xmin, waitingRows)
	if err := row.Scan(&lag.Transactions, &lag.Bytes); err != nil {
		return lag, fmt.Errorf("count the rows that wait: %w", err)
	}
	return lag, nil
}
