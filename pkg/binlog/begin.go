package binlog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// logState is where a server's log begins and ends.
type logState struct {
	now    *position // everything that is visible
	purged gtidSet   // what the log does not hold any more
}

// inspect checks the server's settings and the rules, and looks at its log.
func (s *Source) inspect(srv *server) (logState, error) {
	if err := s.checkSettings(srv); err != nil {
		return logState{}, err
	}
	if err := s.checkRules(srv); err != nil {
		return logState{}, err
	}
	executed, purged, err := gtidState(srv.control)
	if err != nil {
		return logState{}, fmt.Errorf("mysql %s: %w", srv.addr, err)
	}
	now := &position{server: srv.id, done: executed, rules: ruleIDs(s.cfg.Mapper.Fingerprints())}
	return logState{now: now, purged: purged}, nil
}

// begin decides where reading starts: behind what every stored position covers,
// or, where one of them is lost or unreadable, behind a purge.
func (s *Source) begin(ctx context.Context, srv *server, found logState, stored []string) (*position, error) {
	now := found.now
	if s.cfg.FromNow {
		return now, nil
	}
	at, reason := resume(stored, now.done, found.purged)
	if reason != "" {
		return now, s.startAnew(ctx, srv, now, reason)
	}
	if err := s.purgeNewRules(ctx, srv, now, at); err != nil {
		return nil, err
	}
	return &position{server: srv.id, done: at.done, rules: now.rules}, nil
}

// resume returns the position behind what all stored ones cover. Of one server
// that is mostly the oldest of them; but a master that was left behind may
// remember what a failover of the database lost, and then neither covers the
// other. A reason says why one of them, and so none, can be used.
func resume(stored []string, executed, purged gtidSet) (at *position, reason string) {
	if len(stored) == 0 || slices.Contains(stored, "") {
		return nil, "the cache remembers none: this is the first start, or it was emptied or replaced"
	}
	for _, text := range stored {
		p, err := parsePosition(text)
		if err != nil {
			return nil, err.Error()
		}
		if reason := lost(p, executed, purged); reason != "" {
			return nil, reason
		}
		if at == nil {
			at = p
		}
		at = at.and(p)
	}
	return at, ""
}

// lost says why a stored position can not be used; "" where it can.
func lost(stored *position, executed, purged gtidSet) string {
	switch {
	case !executed.Contain(stored.done):
		return "the server never executed some transactions of the stored position: it lost them in a failover, or it is another server"
	case !stored.done.Contain(purged):
		return "the server has purged transactions that were not read yet: raise binlog_expire_logs_seconds"
	}
	return ""
}

// startAnew purges everything that the rules can name and begins at now.
func (s *Source) startAnew(ctx context.Context, srv *server, now *position, reason string) error {
	s.cfg.Observer.Observe(invalidation.Event{Kind: invalidation.Lost, Part: invalidation.PartSource, Text: reason})
	if s.cfg.OnLost == invalidation.FailOnLost {
		return invalidation.Fatal(fmt.Errorf("source %q: %w: %s: set on_lost_position: purge, for one start at the least", s.cfg.Name, invalidation.ErrLost, reason))
	}
	// A position noted before its commits are visible would let a reader
	// load the old row behind the scan and keep it. What gtid_executed names
	// is visible on this server; loaders may read others.
	if err := s.waitVisible(ctx, srv, now.done.String()); err != nil {
		return err
	}
	patterns := s.cfg.Mapper.Patterns(nil, "*", "*")
	return s.purge(ctx, patterns, now)
}

// purge hands a purge over, with the position that it makes good. The Sink
// remembers that one once the purge is done, which may be long after this
// returns: what is read meanwhile is deleted beside it.
func (s *Source) purge(ctx context.Context, patterns []string, at *position) error {
	err := s.cfg.Sink.Apply(ctx, invalidation.Batch{Patterns: invalidation.Broadest(patterns), Position: at.encode()})
	if err != nil {
		return sinkError{fmt.Errorf("purge: %w", err)}
	}
	return nil
}

// purgeNewRules purges the patterns of rules that were not in force when the
// position was stored: nobody deleted for them before.
func (s *Source) purgeNewRules(ctx context.Context, srv *server, now, stored *position) error {
	var patterns []string
	for _, rule := range s.cfg.Mapper.Fingerprints() {
		if !slices.Contains(stored.rules, rule.ID) {
			patterns = append(patterns, rule.Patterns...)
		}
	}
	if len(patterns) == 0 {
		return nil
	}
	s.say("rules are new or changed, so what they name is purged: " + strings.Join(patterns, " "))
	if err := s.waitVisible(ctx, srv, now.done.String()); err != nil {
		return err
	}
	return s.purge(ctx, patterns, &position{server: srv.id, done: stored.done, rules: now.rules})
}

func ruleIDs(prints []invalidation.Fingerprint) []string {
	ids := make([]string, len(prints))
	for i := range prints {
		ids[i] = prints[i].ID
	}
	return ids
}

func gtidState(conn *client.Conn) (executed, purged gtidSet, err error) {
	row, err := queryRow(conn, "SELECT @@global.gtid_executed, @@global.gtid_purged")
	if err != nil {
		return nil, nil, fmt.Errorf("read gtid_executed: %w", err)
	}
	if executed, err = parseGTIDs(strings.ReplaceAll(row[0], "\n", "")); err != nil {
		return nil, nil, err
	}
	purged, err = parseGTIDs(strings.ReplaceAll(row[1], "\n", ""))
	return executed, purged, err
}
