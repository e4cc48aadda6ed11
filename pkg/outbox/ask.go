package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	// identityTimeout bounds the question who a database is.
	identityTimeout = 5 * time.Second
	// waitingRows is how many rows Lag counts.
	waitingRows = 100_000
	// slowTransaction is how long a transaction may have taken whose rows
	// Rewind still finds: a row knows when its transaction began, not when it
	// was committed.
	slowTransaction = 10 * time.Minute
)

// Lag is how much of the log waits. -1 stands for unknown.
type Lag struct {
	// Transactions is the number of rows in the outbox that are committed
	// and not applied: one for each call of enqueue, or in SQLite for each
	// key. 100,000 stands for that many or more.
	Transactions int64
	// Bytes is the size of these rows, or in SQLite of their keys.
	Bytes int64
}

// questioner is a log that can be asked things beside the one that reads it.
type questioner interface {
	identity(ctx context.Context) (string, error)
	now(ctx context.Context) (string, error)
	checkPosition(text string) error
	completePosition(ctx context.Context, text string, stored []string) (string, error)
	rewind(ctx context.Context, back time.Duration, stored []string) (string, error)
	lag(ctx context.Context, applied string) (Lag, error)
	check(ctx context.Context, stored []string) []invalidation.Finding
}

// Identity says which database this is: Postgres's system identifier and the
// database's oid, of the first host that answers within 5 s, or the random
// identity of an SQLite outbox. It uses a connection of its own and is safe beside Run, as is
// everything below.
func (s *Source) Identity(ctx context.Context) (server string, err error) {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	return named(s, "identify the server", s.log.identity)(ctx)
}

// Now returns the log's present end as a position that Run would write: all
// that is in it is committed, visible and on disk.
func (s *Source) Now(ctx context.Context) (position string, err error) {
	return named(s, "note the log's end", s.log.now)(ctx)
}

// Lag says how much waits between the log's end and what Run has applied. Both
// are unknown before Run has applied something.
func (s *Source) Lag(ctx context.Context) (Lag, error) {
	applied := s.applied.Load()
	if applied == nil {
		return Lag{Transactions: -1, Bytes: -1}, nil
	}
	lag, err := s.log.lag(ctx, *applied)
	if err != nil {
		return Lag{Transactions: -1, Bytes: -1}, fmt.Errorf("outbox %s: look how much waits: %w", s.name, err)
	}
	return lag, nil
}

// Rewind returns a position from which everything that was committed in the
// last back is read again, and maybe more. stored is what each master of the
// cache remembers; the position is never newer than any of them, and none may
// be "". nil: no cache was asked. Only rows that are still in the table can be read again:
// an error says where the retention has cut them. In Postgres, what a
// transaction of more than 10 minutes enqueued may be missed.
func (s *Source) Rewind(ctx context.Context, back time.Duration, stored []string) (position string, err error) {
	if back < 0 {
		return "", fmt.Errorf("outbox %s: rewind by %s: the time to go back is negative", s.name, back)
	}
	if slices.Contains(stored, "") {
		return "", fmt.Errorf("outbox %s: rewind by %s: %w", s.name, back, errNoReplay)
	}
	return named(s, "rewind by "+back.String(), func(ctx context.Context) (string, error) {
		return s.log.rewind(ctx, back, stored)
	})(ctx)
}

// CheckPosition returns an error for a text that is no position of this kind
// of outbox.
func (s *Source) CheckPosition(text string) error { return s.log.checkPosition(text) }

// CompletePosition returns the position that an operator means, which is the
// text itself here. stored is what each master of the cache remembers, where
// reading is to go back: the position must not be newer than any of them, and
// none may be "". nil: no cache was asked. The error says why the outbox can not
// be read from there.
func (s *Source) CompletePosition(ctx context.Context, text string, stored []string) (position string, err error) {
	if err := s.CheckPosition(text); err != nil {
		return "", err
	}
	return named(s, "check the position", func(ctx context.Context) (string, error) {
		if slices.Contains(stored, "") {
			return "", errNoReplay
		}
		return s.log.completePosition(ctx, text, stored)
	})(ctx)
}

// named adds to an error which source it is of and what was asked.
func named(s *Source, doing string, ask func(context.Context) (string, error)) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		answer, err := ask(ctx)
		if err != nil {
			return "", fmt.Errorf("outbox %s: %s: %w", s.name, doing, err)
		}
		return answer, nil
	}
}

// Why a replay is refused.
var (
	errNoReplay = errors.New("a master of the cache remembers no position: it is purged when reading begins, and needs no replay")
	errUnusable = errors.New("a stored position can not be used, so everything is purged anyway")
	errNewer    = errors.New("it is newer than what the cache remembers, and what lies between would never be deleted: give a position that is not, as \"invalidator position show\" prints it")
)

func shorten(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
