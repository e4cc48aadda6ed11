package binlog

import (
	"context"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// batchKeys ends a batch; a batch is also ended by an empty channel.
const batchKeys = 8192

// applier gives the reader's changes to the Sink, each behind the gate.
type applier struct {
	source *Source
	server *server
	at     *position // everything in it is applied
	place  place     // where in the binlog that is

	batch   invalidation.Batch
	seen    map[string]struct{}
	gate    *mysql.MysqlGTIDSet // the transactions whose deletes are in batch
	tally   tally
	updated bool // at went on since the Sink last heard of it
	idle    bool // the server said that there is no more, and nothing came since
	told    time.Time
	tick    *time.Ticker
}

// tally is what an Advanced event says of a batch.
type tally struct {
	transactions, coalesced int
	oldest, newest          time.Time
}

func (t *tally) saw(committed time.Time) {
	if t.oldest.IsZero() || committed.Before(t.oldest) {
		t.oldest = committed
	}
	if committed.After(t.newest) {
		t.newest = committed
	}
}

// run applies until the channel is closed or something fails.
func (a *applier) run(ctx context.Context, changes <-chan change) error {
	a.tick = time.NewTicker(beat)
	defer a.tick.Stop()
	a.reset()
	if err := a.flush(ctx); err != nil { // the first heartbeat of the session
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.tick.C:
			if err := a.flush(ctx); err != nil {
				return err
			}
		case c, ok := <-changes:
			if !ok {
				return errStreamEnded
			}
			a.add(c)
			if !a.collect(changes) {
				return errStreamEnded
			}
			if err := a.flushIfDue(ctx); err != nil {
				return err
			}
		}
	}
}

// collect adds what the reader has ready, up to a full batch; false when the
// channel is closed.
func (a *applier) collect(changes <-chan change) bool {
	for len(a.batch.Keys) < batchKeys {
		select {
		case c, ok := <-changes:
			if !ok {
				return false
			}
			a.add(c)
		default:
			return true
		}
	}
	return true
}

func (a *applier) add(c change) {
	if a.idle = c.idle; c.idle {
		a.place = c.end
		return
	}
	for _, key := range c.keys {
		if _, known := a.seen[key]; known {
			a.tally.coalesced++
			continue
		}
		a.seen[key] = struct{}{}
		a.batch.Keys = append(a.batch.Keys, key)
	}
	if len(c.patterns) > 0 {
		a.batch.Patterns = invalidation.Broadest(append(a.batch.Patterns, c.patterns...))
	}
	if len(c.keys)+len(c.patterns) > 0 {
		a.gate.AddGTIDWithTag(c.gtid.source, c.gtid.tag, c.gtid.number)
	}
	a.tally.saw(c.committed)
	if c.last {
		// Only whole transactions: a position is never inside one.
		a.at.add(c.gtid)
		a.place, a.updated = c.end, true
		a.tally.transactions++
	}
}

func (a *applier) deletes() bool { return len(a.batch.Keys)+len(a.batch.Patterns) > 0 }

// flushIfDue applies at once what deletes; what only moves the position, such
// as transactions on unwatched tables, waits for the next heartbeat.
func (a *applier) flushIfDue(ctx context.Context) error {
	if !a.deletes() && !a.idle && time.Since(a.told) < beat {
		return nil
	}
	return a.flush(ctx)
}

// flush waits until the batch's transactions are visible and deletes it.
func (a *applier) flush(ctx context.Context) error {
	if a.deletes() {
		if err := a.pass(ctx); err != nil {
			return err
		}
	}
	if a.updated {
		a.batch.Position = a.at.encode()
	}
	keys := len(a.batch.Keys) // the batch is the Sink's from here on
	if err := a.source.cfg.Sink.Apply(ctx, a.batch); err != nil {
		return sinkError{fmt.Errorf("apply: %w", err)}
	}
	done := a.at.done.String()
	a.source.applied.Store(&applied{gtids: done, place: a.place})
	idle, err := a.caughtUp(ctx, done)
	if err != nil {
		return err
	}
	if idle || !a.tally.newest.IsZero() {
		a.source.cfg.Observer.Observe(invalidation.Event{
			Kind: invalidation.Advanced, Part: invalidation.PartSource, Text: done,
			Count: a.tally.transactions, Keys: keys, Coalesced: a.tally.coalesced,
			At: a.tally.newest, Oldest: a.tally.oldest, Idle: idle,
		})
	}
	a.reset()
	return nil
}

// pass takes the batch through the gate.
func (a *applier) pass(ctx context.Context) error {
	if a.source.cfg.WithoutGate {
		return nil
	}
	started := time.Now()
	if err := a.source.waitVisible(ctx, a.server, a.gate.String()); err != nil {
		return err
	}
	a.source.cfg.Observer.Observe(invalidation.Event{Kind: invalidation.Gated, Part: invalidation.PartGate, Took: time.Since(started)})
	return nil
}

// caughtUp reports whether everything that the server has executed is applied.
// A heartbeat alone is no proof: while the server looks through a file for the
// first transaction that is missing here, it sends some as well.
func (a *applier) caughtUp(ctx context.Context, done string) (caughtUp bool, err error) {
	if !a.idle {
		return false, nil
	}
	err = a.source.beating(ctx, a.server.close, func() error {
		row, err := queryRow(a.server.control, "SELECT GTID_SUBSET(@@global.gtid_executed, '"+done+"')")
		if err != nil {
			return fmt.Errorf("mysql %s: compare with gtid_executed: %w", a.server.addr, err)
		}
		caughtUp = row[0] == "1"
		return nil
	})
	return caughtUp, err
}

func (a *applier) reset() {
	gate := mysql.NewMysqlGTIDSet()
	a.gate = &gate
	a.batch = invalidation.Batch{}
	a.seen = map[string]struct{}{}
	a.tally = tally{}
	a.updated, a.idle, a.told = false, false, time.Now()
	a.tick.Reset(beat)
}

// waitVisible takes transactions through the gate, and lets the Sink hear from
// the Source meanwhile.
func (s *Source) waitVisible(ctx context.Context, srv *server, gtids string) error {
	return s.beating(ctx, srv.close, func() error { return s.visible(srv, gtids) })
}

// visible is the gate: it returns when every other connection can see the
// transactions, on the source and on the servers of ReadsFrom.
func (s *Source) visible(srv *server, gtids string) error {
	if s.cfg.WithoutGate || gtids == "" {
		return nil
	}
	for _, conn := range append([]*client.Conn{srv.control}, srv.others...) {
		if err := s.waitVisibleOn(conn, gtids); err != nil {
			return gateError{fmt.Errorf("wait until the commits are visible: %w", err)}
		}
	}
	return nil
}

func (s *Source) waitVisibleOn(conn *client.Conn, gtids string) error {
	row, err := queryRow(conn, fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', %.3f)", gtids, s.cfg.GateTimeout.Seconds()))
	if err != nil {
		return err
	}
	if row[0] != "0" {
		return fmt.Errorf("not within %s on %s: is it stalled, or did a failover lose them?", s.cfg.GateTimeout, conn.RemoteAddr())
	}
	return nil
}
