package outbox

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

//go:embed sql/disown.sql
var disownSQL string

// resume chooses where to go on. A reason says why none of the positions will
// do; only the server's identity is set then.
func (s *session) resume(ctx context.Context, positions []string, now moment, fromNow bool) (at position, reason string, err error) {
	here := position{home: s.home, LSN: now.inserted, Snapshot: now.snapshot}
	if fromNow {
		return here, "", nil
	}
	var prunedBelow uint64
	switch err := s.conn.QueryRow(ctx, prunedBelowSQL).Scan(&prunedBelow); {
	case errors.Is(err, pgx.ErrNoRows):
		return here, "", invalidation.Fatal(errNoState)
	case err != nil:
		return here, "", fmt.Errorf("read what was pruned: %w", err)
	}
	at, reason = covered(positions, here, prunedBelow)
	if reason != "" {
		return here, reason, nil
	}
	return at, "", nil
}

// disown takes back what a prune on another server has noted. Every position
// would look as if rows that it needs were gone.
func (s *session) disown(ctx context.Context) error {
	if _, err := s.conn.Exec(ctx, disownSQL); err != nil {
		return fmt.Errorf("note what was pruned: %w", err)
	}
	return nil
}

// covered returns the position behind what all of them cover, or why one of
// them is unusable.
func covered(positions []string, here position, prunedBelow uint64) (at position, reason string) {
	if len(positions) == 0 {
		return at, "the cache remembers no position"
	}
	for i, text := range positions {
		if text == "" {
			return at, "the cache remembers none: this is the first start, or it was emptied or replaced"
		}
		p, err := parsePosition(text)
		switch {
		case err != nil:
			return at, err.Error()
		case p.System != here.System:
			return at, fmt.Sprintf("the position is of another Postgres (system %s, this is %s)", p.System, here.System)
		case !p.sameOutbox(here.home):
			return at, fmt.Sprintf("the position is of another outbox of the server, or of one that was dropped (oids %s, here %s)", p.Outbox, here.Outbox)
		case p.Timeline != here.Timeline:
			return at, fmt.Sprintf("another server was promoted: the position is of timeline %s, this is %s", p.Timeline, here.Timeline)
		case p.LSN > here.LSN:
			return at, fmt.Sprintf("the database went back in time: the position is at %s, the log ends at %s", p.LSN, here.LSN)
		case p.Snapshot.xmin < prunedBelow:
			return at, fmt.Sprintf("rows that it needs were pruned: it begins at transaction %d, what is before %d may be gone", p.Snapshot.xmin, prunedBelow)
		}
		if i == 0 {
			at = p
			continue
		}
		at = at.and(p)
	}
	return at, ""
}
