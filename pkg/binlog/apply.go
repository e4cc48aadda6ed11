package binlog

import (
	"context"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	// heartbeat is how often the Sink hears from an idle source.
	heartbeat = time.Second
	// batchKeys ends a batch; a batch is also ended by an empty channel.
	batchKeys = 8192
)

// applier gives the reader's changes to the Sink, each behind the gate.
type applier struct {
	source *Source
	server *server
	at     *position // everything in it is applied

	batch   invalidation.Batch
	seen    map[string]struct{}
	gate    *mysql.MysqlGTIDSet // the transactions whose deletes are in batch
	newest  time.Time
	updated bool // at went on since the Sink last heard of it
	told    time.Time
}

// run applies until the channel is closed or something fails.
func (a *applier) run(ctx context.Context, changes <-chan change) error {
	a.reset()
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	if err := a.flush(ctx); err != nil { // the first heartbeat of the session
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
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
	for _, key := range c.keys {
		if _, known := a.seen[key]; !known {
			a.seen[key] = struct{}{}
			a.batch.Keys = append(a.batch.Keys, key)
		}
	}
	if len(c.patterns) > 0 {
		a.batch.Patterns = unique(append(a.batch.Patterns, c.patterns...))
	}
	if len(c.keys)+len(c.patterns) > 0 {
		a.gate.AddGTIDWithTag(c.gtid.source, c.gtid.tag, c.gtid.number)
	}
	if c.last {
		// Only whole transactions: a position is never inside one.
		a.at.add(c.gtid)
		a.newest, a.updated = c.committed, true
	}
}

// flushIfDue applies at once what deletes; what only moves the position, such
// as transactions on unwatched tables, waits for the next heartbeat.
func (a *applier) flushIfDue(ctx context.Context) error {
	if len(a.batch.Keys)+len(a.batch.Patterns) == 0 && time.Since(a.told) < heartbeat {
		return nil
	}
	return a.flush(ctx)
}

// flush waits until the batch's transactions are visible and deletes it.
func (a *applier) flush(ctx context.Context) error {
	if len(a.batch.Keys)+len(a.batch.Patterns) > 0 {
		if err := a.source.waitVisible(a.server, a.gate.String()); err != nil {
			return err
		}
	}
	if a.updated {
		a.batch.Position = a.at.encode()
	}
	if err := a.source.cfg.Sink.Apply(ctx, a.batch); err != nil {
		return sinkError{fmt.Errorf("apply: %w", err)}
	}
	a.source.cfg.Observer.Observe(invalidation.Event{Kind: invalidation.Advanced, Part: invalidation.PartSource, At: a.newest, Text: a.at.done.String()})
	a.reset()
	return nil
}

func (a *applier) reset() {
	gate := mysql.NewMysqlGTIDSet()
	a.gate = &gate
	a.batch = invalidation.Batch{}
	a.seen = map[string]struct{}{}
	a.updated, a.told = false, time.Now()
}

// waitVisible is the gate: it returns when every other connection can see the
// transactions, on the source and on the servers of ReadsFrom.
func (s *Source) waitVisible(srv *server, gtids string) error {
	if s.cfg.WithoutGate || gtids == "" {
		return nil
	}
	for _, conn := range append([]*client.Conn{srv.control}, srv.others...) {
		row, err := queryRow(conn, fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', %.3f)", gtids, s.cfg.GateTimeout.Seconds()))
		if err != nil {
			return gateError{fmt.Errorf("wait until the commits are visible: %w", err)}
		}
		if row[0] != "0" {
			return gateError{fmt.Errorf("wait until the commits are visible: not within %s on %s: is it stalled, or did a failover lose them?", s.cfg.GateTimeout, conn.RemoteAddr())}
		}
	}
	return nil
}
