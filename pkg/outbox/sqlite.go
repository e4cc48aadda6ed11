package outbox

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

//go:embed sql/sqlite_open.sql
var sqliteOpenSQL string

//go:embed sql/sqlite_last.sql
var sqliteLastSQL string

//go:embed sql/sqlite_token.sql
var sqliteTokenSQL string

//go:embed sql/sqlite_rows.sql
var sqliteRowsSQL string

// sqliteLog is the outbox of one SQLite database. A cursor on the id is right
// there: only one transaction writes at a time, so ids are committed in order.
type sqliteLog struct {
	source *Source
	db     *sql.DB
}

// sqlitePosition is the last row that was read. The token is that row's own: a
// database that went back in time gives the id to another row.
type sqlitePosition struct {
	DB    string `json:"db"`
	ID    int64  `json:"id,string"`
	Token string `json:"token"`
}

func (p sqlitePosition) String() string {
	text, _ := json.Marshal(p) // strings and numbers: it does not fail
	return string(text)
}

func parseSQLitePosition(text string) (sqlitePosition, error) {
	var p sqlitePosition
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, fmt.Errorf("the position can not be read: %w", err)
	}
	if p.DB == "" || p.ID < 0 {
		return p, errors.New("the position is not one of an SQLite outbox")
	}
	return p, nil
}

func (l *sqliteLog) follow(ctx context.Context, positions []string, emit func(step) error) error {
	at, err := l.start(ctx, positions, emit)
	if err != nil {
		return l.explain(err)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var reported time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		c, err := l.rows(ctx, &at)
		if err != nil {
			return l.explain(err)
		}
		pause := l.source.poll
		if c.more() {
			pause = 0
		}
		if now := time.Now(); c.rows > 0 || now.Sub(reported) >= report {
			st := c.step()
			if st.idle = c.rows == 0; st.idle {
				reported = now
			}
			st.position, st.at, st.text = at.String(), at.String(), fmt.Sprintf("row %d", at.ID)
			if err := emit(st); err != nil {
				return err
			}
		}
		timer.Reset(pause)
	}
}

// start chooses where to go on and purges where that is lost.
func (l *sqliteLog) start(ctx context.Context, positions []string, emit func(step) error) (at sqlitePosition, err error) {
	now, err := l.last(ctx)
	if err != nil {
		return at, err
	}
	l.source.observe(invalidation.Event{Kind: invalidation.Working})
	if l.source.fromNow {
		return now, nil
	}
	at, reason, err := l.resume(ctx, positions)
	if err != nil || reason == "" {
		return at, err
	}
	if err := l.source.lost(reason); err != nil {
		return at, err
	}
	// What is gone from the table was committed before the purge begins, so a
	// loader that fills after the purge has passed its key has read at least
	// that. What is still there is read, from the first row on.
	at = sqlitePosition{DB: now.DB}
	return at, emit(step{patterns: l.source.purge, at: at.String()})
}

func (l *sqliteLog) last(ctx context.Context) (p sqlitePosition, err error) {
	if err := l.db.QueryRowContext(ctx, sqliteLastSQL).Scan(&p.DB, &p.ID, &p.Token); err != nil {
		return p, fmt.Errorf("look at the log's end: %w", err)
	}
	return p, nil
}

// resume returns the oldest of the positions, or why one of them is unusable.
func (l *sqliteLog) resume(ctx context.Context, positions []string) (at sqlitePosition, reason string, err error) {
	var here sqlitePosition
	var prunedBelow int64
	if err := l.db.QueryRowContext(ctx, sqliteOpenSQL).Scan(&here.DB, &prunedBelow); err != nil {
		return at, "", fmt.Errorf("look at the outbox: %w", err)
	}
	if len(positions) == 0 {
		positions = []string{""}
	}
	for i, text := range positions {
		if text == "" {
			return at, "the cache remembers none: this is the first start, or it was emptied or replaced", nil
		}
		p, bad := parseSQLitePosition(text)
		switch {
		case bad != nil:
			return at, bad.Error(), nil //nolint:nilerr // it is the reason
		case p.DB != here.DB:
			return at, "the position is of another SQLite database", nil
		case p.ID < prunedBelow:
			return at, fmt.Sprintf("rows that it needs were pruned: it is at %d, what is before %d may be gone", p.ID, prunedBelow), nil
		}
		same, err := l.holds(ctx, p)
		if err != nil {
			return at, "", err
		}
		if !same {
			return at, fmt.Sprintf("the database went back in time: row %d is not the one that was read", p.ID), nil
		}
		if i == 0 || p.ID < at.ID {
			at = p
		}
	}
	return at, "", nil
}

// holds reports whether the row of the position is still that row.
func (l *sqliteLog) holds(ctx context.Context, p sqlitePosition) (bool, error) {
	if p.ID == 0 {
		return true, nil // from the beginning
	}
	var token string
	switch err := l.db.QueryRowContext(ctx, sqliteTokenSQL, p.ID).Scan(&token); {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at row %d: %w", p.ID, err)
	}
	return token == p.Token, nil
}

// rows reads one chunk and moves the position behind it.
func (l *sqliteLog) rows(ctx context.Context, at *sqlitePosition) (*chunk, error) {
	c := &chunk{seen: map[string]struct{}{}, limit: chunkRows}
	rows, err := l.db.QueryContext(ctx, sqliteRowsSQL, at.ID, c.limit)
	if err != nil {
		return nil, fmt.Errorf("read rows: %w", err)
	}
	defer rows.Close()
	for more := true; more && rows.Next(); {
		var key string
		var created int64
		if err := rows.Scan(&at.ID, &key, &at.Token, &created); err != nil {
			return nil, fmt.Errorf("read rows: %w", err)
		}
		more = c.add(row{keys: []string{key}, created: time.UnixMilli(created)})
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read rows: %w", err)
	}
	return c, nil
}

func (l *sqliteLog) explain(err error) error {
	if err != nil && schemaMissing(err) {
		return invalidation.Fatal(invalidation.AdvisedError{Err: fmt.Errorf("the database has no outbox: %w", err), Fix: migrateUp})
	}
	return err
}
