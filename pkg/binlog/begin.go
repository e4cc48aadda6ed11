package binlog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// begin checks the server's settings and decides where reading starts: behind
// the stored position, or, where that is lost or unreadable, behind a purge.
func (s *Source) begin(ctx context.Context, srv *server, stored *position, unreadable string) (*position, error) {
	if err := s.checkSettings(srv); err != nil {
		return nil, err
	}
	if err := s.checkRules(srv); err != nil {
		return nil, err
	}
	executed, purged, err := gtidState(srv.control)
	if err != nil {
		return nil, fmt.Errorf("mysql %s: %w", srv.addr, err)
	}
	now := &position{server: srv.id, done: executed, rules: ruleIDs(s.cfg.Mapper.Fingerprints())}
	if s.cfg.FromNow {
		return now, nil
	}
	if unreadable != "" {
		return now, s.startAnew(ctx, srv, now, unreadable)
	}
	if reason := lost(stored, executed, purged); reason != "" {
		return now, s.startAnew(ctx, srv, now, reason)
	}
	if err := s.purgeNewRules(ctx, srv, now, stored); err != nil {
		return nil, err
	}
	return &position{server: srv.id, done: stored.done, rules: now.rules}, nil
}

// lost says why a stored position can not be used; "" where it can.
func lost(stored *position, executed, purged gtidSet) string {
	switch {
	case stored == nil:
		return "the cache remembers none: this is the first start, or it was emptied or replaced"
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
	if err := s.waitVisible(srv, now.done.String()); err != nil {
		return err
	}
	patterns := s.cfg.Mapper.Patterns(nil, "*", "*")
	return s.purge(ctx, patterns, now)
}

// purge deletes by pattern, and has the position stored at once: a purge is
// worth remembering before anything can go wrong.
func (s *Source) purge(ctx context.Context, patterns []string, at *position) error {
	for _, batch := range []invalidation.Batch{{Patterns: unique(patterns), Position: at.encode()}, {}} {
		if err := s.cfg.Sink.Apply(ctx, batch); err != nil {
			return sinkError{fmt.Errorf("purge: %w", err)}
		}
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
	s.note("rules are new or changed, so what they name is purged: " + strings.Join(patterns, " "))
	if err := s.waitVisible(srv, now.done.String()); err != nil {
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

func unique(patterns []string) []string {
	slices.Sort(patterns)
	return slices.Compact(patterns)
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
