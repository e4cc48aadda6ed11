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

//go:embed sql/check_server.sql
var checkServerSQL string

//go:embed sql/check_outbox.sql
var checkOutboxSQL string

//go:embed sql/check_rows.sql
var checkRowsSQL string

// Check looks at everything that relaying this outbox needs, and returns what
// it found, one Finding for each requirement. It changes nothing and may run
// beside Run. stored is what each master of the cache remembers, "" for one
// that remembers nothing; nil leaves the position out.
func (s *Source) Check(ctx context.Context, stored []string) []invalidation.Finding {
	return s.log.check(ctx, stored)
}

func (l *postgresLog) check(ctx context.Context, stored []string) []invalidation.Finding {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	s, others, err := l.reach(ctx)
	if err != nil {
		return []invalidation.Finding{failed("connection", err)}
	}
	defer s.close(ctx)
	found := append([]invalidation.Finding{{Level: invalidation.OK, Subject: "connection", Text: "postgres " + s.server.String() + " answers"}}, others...)
	facts, err := s.serverFacts(ctx)
	if err != nil {
		return append(found, failed("server", l.explain(s.server, err)))
	}
	found = append(found, facts.judge(s.conn.PgConn().PID())...)
	if facts.version < oldestVersion || !facts.outbox {
		return found
	}
	found = append(found, right(facts.usage, "USAGE", "SCHEMA cache_outbox", facts.account, "nothing in it can be reached"))
	if !facts.usage {
		return found
	}
	outbox, err := s.outboxFacts(ctx)
	if err != nil {
		return append(found, failed("cache_outbox", l.explain(s.server, err)))
	}
	found = append(found, outbox.judge(facts)...)
	if !outbox.mayRead() {
		return found
	}
	found = append(found, l.checkAge(ctx, s))
	if l.source.onLost != invalidation.FailOnLost {
		found = append(found, l.checkPurge(ctx, s))
	}
	if stored != nil && !facts.recovery {
		found = append(found, l.checkStored(ctx, s, stored))
	}
	return found
}

// require refuses an outbox that can not be relayed, and notes what has a cost,
// once in the life of the Source. It is the part of Check that a start needs.
func (l *postgresLog) require(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	server, err := s.serverFacts(ctx)
	if err != nil {
		return err
	}
	outbox, err := s.outboxFacts(ctx)
	if err != nil {
		return err
	}
	found := server.judge(s.conn.PgConn().PID())
	for _, f := range append(found, append(outbox.judgeSchema(server), outbox.judgeWear(server)...)...) {
		line := f.Subject + ": " + f.Text + ": " + f.Fix
		switch f.Level {
		case invalidation.Fail:
			return invalidation.Fatal(fmt.Errorf("postgres %s: %s", s.server, line))
		case invalidation.Warn:
			if _, told := l.noted.LoadOrStore(f.Subject, true); !told {
				l.source.observe(invalidation.Event{Kind: invalidation.Noted, Text: "outbox " + l.source.name + ": " + line})
			}
		case invalidation.OK:
		}
	}
	return nil
}

// reach connects to the host that Run would use: the first that is a primary,
// or, where none is, the first that answers. It tells of the others.
func (l *postgresLog) reach(ctx context.Context) (s *session, others []invalidation.Finding, err error) {
	var errs []error
	for i, srv := range l.servers {
		next, primary, err := l.dial(ctx, srv)
		subject := fmt.Sprintf("hosts[%d]", i)
		switch {
		case err != nil:
			err = l.explain(srv, err)
			errs = append(errs, err)
			others = append(others, invalidation.Finding{Level: invalidation.Warn, Subject: subject, Text: err.Error(), Fix: "start it, correct the address, or take it out of hosts"})
		case s == nil:
			s = next
			if primary {
				return s, others, nil
			}
		case primary:
			s.close(ctx)
			return next, others, nil
		default:
			next.close(ctx)
		}
	}
	if s == nil {
		return nil, nil, joinLine(errs)
	}
	return s, others, nil
}

func (l *postgresLog) dial(ctx context.Context, srv server) (s *session, primary bool, err error) {
	cfg, err := l.config(srv)
	if err != nil {
		return nil, false, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, false, err
	}
	s = &session{conn: conn, server: srv}
	var version int
	var recovery bool
	if err := conn.QueryRow(ctx, serverSQL).Scan(&version, &recovery); err != nil {
		s.close(ctx)
		return nil, false, fmt.Errorf("look at the server: %w", err)
	}
	return s, !recovery, nil
}

// checkAge looks at the oldest row: what is older than the retention is pruned
// once it is applied.
func (l *postgresLog) checkAge(ctx context.Context, s *session) invalidation.Finding {
	var seconds float64
	err := s.conn.QueryRow(ctx, checkRowsSQL).Scan(&seconds)
	if errors.Is(err, pgx.ErrNoRows) {
		return invalidation.Passed("retention", "the outbox is empty")
	}
	if err != nil {
		return failed("retention", l.explain(s.server, err))
	}
	age := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	return invalidation.Warn.Unless(age < 2*l.source.retention+5*time.Minute, "retention", fmt.Sprintf("the oldest row is %s old, rows are kept for %s once they are applied", age, l.source.retention),
		"nobody prunes the outbox, so it grows", "start the daemon, or see why it waits")
}

// checkStored looks whether the outbox still holds what the cache has not seen.
func (l *postgresLog) checkStored(ctx context.Context, s *session, stored []string) invalidation.Finding {
	err := s.inspect(ctx, true)
	var now moment
	if err == nil {
		now, err = s.moment(ctx)
	}
	if err != nil {
		return failed("position", l.explain(s.server, err))
	}
	at, reason, err := s.resume(ctx, stored, now, false)
	switch {
	case err != nil:
		return failed("position", l.explain(s.server, err))
	case reason != "":
		return l.source.unusable(reason)
	}
	lag, err := s.lag(ctx, at)
	if err != nil {
		return failed("position", l.explain(s.server, err))
	}
	return invalidation.Passed("position", fmt.Sprintf("%d rows wait", lag.Transactions))
}

// unusable is the Finding for a position that a start can not go on from.
func (s *Source) unusable(reason string) invalidation.Finding {
	if s.onLost == invalidation.FailOnLost {
		return invalidation.Fail.Of("position", reason, "set on_lost_position: purge, for one start at the least")
	}
	return invalidation.Warn.Of("position", reason+": at the next start "+s.begins(),
		"nothing; or, for a cache that is known to be right, invalidator position set --now")
}

func (l *sqliteLog) check(ctx context.Context, stored []string) []invalidation.Finding {
	now, err := l.last(ctx)
	if err != nil {
		return []invalidation.Finding{failed("cache_outbox", l.explain(err))}
	}
	found := []invalidation.Finding{invalidation.Passed("cache_outbox", fmt.Sprintf("the outbox %s is at row %d", now.DB, now.ID))}
	if stored == nil {
		return found
	}
	at, reason, err := l.resume(ctx, stored)
	switch {
	case err != nil:
		return append(found, failed("position", l.explain(err)))
	case reason != "":
		return append(found, l.source.unusable(reason))
	}
	return append(found, invalidation.Passed("position", fmt.Sprintf("it is at row %d", at.ID)))
}

// failed is the Finding for a question that the database did not answer.
func failed(subject string, err error) invalidation.Finding {
	text, fix := oneLineError{err}.Error(), "start the server, or correct hosts; see its log"
	if advice, ok := errors.AsType[invalidation.AdvisedError](err); ok {
		text, fix = strings.TrimSuffix(text, ": "+advice.Fix), strings.TrimPrefix(advice.Fix, "run ")
	} else if errors.Is(err, invalidation.ErrFatal) {
		fix = "correct what the message names"
	}
	return invalidation.Fail.Of(subject, text, fix)
}
