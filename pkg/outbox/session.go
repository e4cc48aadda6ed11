package outbox

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

//go:embed sql/settings.sql
var settingsSQL string

//go:embed sql/server.sql
var serverSQL string

//go:embed sql/open.sql
var openSQL string

//go:embed sql/tick.sql
var tickSQL string

//go:embed sql/flushed.sql
var flushedSQL string

//go:embed sql/flush.sql
var flushSQL string

//go:embed sql/rows.sql
var rowsSQL string

//go:embed sql/pruned_below.sql
var prunedBelowSQL string

const (
	connectTimeout = 5 * time.Second
	// statementTimeout is how long a server that no longer answers, or a
	// lock on the table, is waited for.
	statementTimeout = 30 * time.Second
	oldestVersion    = 130000
)

var (
	errRecovery = errors.New("the server is a standby, whose snapshots do not tell what is still running: name the primary in hosts")
	errNoState  = errors.New("cache_outbox.state has lost its row: run \"invalidator migrate down\" and \"invalidator migrate up\"")
)

// session is a connection to a primary that has the outbox.
//
// Which server it is gets asked once, when it is opened. A promotion behind
// the same address ends the connection, as a crash does, and both are looked
// at anew then; only a pooler can hide them, and the process id of the backend
// gives that one away.
type session struct {
	conn   *pgx.Conn
	server server
	home

	pid uint32
}

// inspect asks what the server is and whether it serves.
func (s *session) inspect(ctx context.Context, readOnly bool) error {
	var version int
	var recovery bool
	if err := s.conn.QueryRow(ctx, serverSQL).Scan(&version, &recovery); err != nil {
		return fmt.Errorf("look at the server: %w", err)
	}
	switch {
	case version < oldestVersion:
		return invalidation.Fatal(fmt.Errorf("the server is Postgres %d: the outbox needs 13 or later", version/10000))
	case recovery:
		return errRecovery
	}
	if _, err := s.conn.Exec(ctx, settingsSQL); err != nil {
		return fmt.Errorf("prepare the session: %w", err)
	}
	var mayRead, mayPrune bool
	if err := s.conn.QueryRow(ctx, openSQL).Scan(&s.System, &s.Outbox, &s.Timeline, &s.pid, &mayRead, &mayPrune); err != nil {
		return fmt.Errorf("look at the outbox: %w", err)
	}
	if !mayRead || (!mayPrune && !readOnly) {
		return errPrivilege
	}
	return nil
}

// close tells the server, also when ctx is done.
func (s *session) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
}

// moment notes a snapshot and, behind it, where the WAL ends.
func (s *session) moment(ctx context.Context) (moment, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	var texts [3]string
	var recovery bool
	var pid uint32
	if err := s.conn.QueryRow(ctx, tickSQL).Scan(&texts[0], &texts[1], &texts[2], &recovery, &pid); err != nil {
		return moment{}, fmt.Errorf("look at the log's end: %w", err)
	}
	if recovery {
		return moment{}, errRecovery
	}
	if pid != s.pid {
		return moment{}, errors.New("a pooler gives every statement another connection: name Postgres itself in hosts")
	}
	var m moment
	var errs [3]error
	m.snapshot, errs[0] = parseSnapshot(texts[0])
	m.inserted, errs[1] = parseLSN(texts[1])
	m.flushed, errs[2] = parseLSN(texts[2])
	return m, errors.Join(errs[:]...)
}

// flushed returns how far the WAL is on disk, and brings it up to here first
// where force says so.
func (s *session) flushed(ctx context.Context, force bool) (lsn, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	if force {
		if _, err := s.conn.Exec(ctx, flushSQL); err != nil {
			return 0, fmt.Errorf("flush the WAL: %w", err)
		}
	}
	var text string
	if err := s.conn.QueryRow(ctx, flushedSQL).Scan(&text); err != nil {
		return 0, fmt.Errorf("look how far the WAL is flushed: %w", err)
	}
	return parseLSN(text)
}

// rows reads one page. The number below which rows may be gone is read behind
// them, in the same round trip: a prune that took some of them shows there.
func (s *session) rows(ctx context.Context, p page, each func(row) bool) (prunedBelow uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	batch := &pgx.Batch{}
	batch.Queue(rowsSQL, p.late, p.afterOld.Txid, p.afterOld.ID, p.after.Txid, p.after.ID, p.target.xmax, p.target.String(), p.limit)
	batch.Queue(prunedBelowSQL)
	results := s.conn.SendBatch(ctx, batch)
	defer results.Close()
	rows, err := results.Query()
	if err != nil {
		return 0, fmt.Errorf("read rows: %w", err)
	}
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.at.Txid, &r.at.ID, &r.keys, &r.created); err != nil {
			rows.Close()
			return 0, fmt.Errorf("read rows: %w", err)
		}
		if !each(r) {
			break
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("read rows: %w", err)
	}
	switch err := results.QueryRow().Scan(&prunedBelow); {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, invalidation.Fatal(errNoState)
	case err != nil:
		return 0, fmt.Errorf("read what was pruned: %w", err)
	}
	return prunedBelow, nil
}
