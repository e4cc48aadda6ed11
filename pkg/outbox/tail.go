package outbox

import (
	"context"
	"fmt"
	"math"
	"time"
)

// tail reads the rows that come in, on one connection.
type tail struct {
	source  *Source
	emit    func(step) error
	moment  func(context.Context) (moment, error)
	rows    func(context.Context, page, func(row) bool) (prunedBelow uint64, err error)
	flushed func(ctx context.Context, force bool) (lsn, error)

	at       position
	purged   bool // the position was lost, and what is gone up to the target is left to the purge
	limit    int  // rows to ask for; less than chunkRows while rows are large
	pending  durable
	reported time.Time // when the log was last said to hold nothing more
}

// moment is what one look at the server tells.
type moment struct {
	snapshot          snapshot
	inserted, flushed lsn
}

// page asks for rows that committed between two snapshots.
type page struct {
	late     []uint64 // transactions that ran in the first and had ended in the second
	afterOld cursor   // go on behind this among those
	after    cursor   // go on behind this among the transactions that are newer than the first
	target   snapshot // the second
	limit    int
}

// lose starts anew: what is gone from the table is left to the purge, and every
// row that is still there is read, from the first one on, because its keys may
// be such that no glob covers.
//
// The moment is noted before the purge begins. What it sees was committed then,
// and visible to every reader of this server, because only what is visible is
// in a snapshot; so whatever a loader fills after the purge has passed its key,
// it has read at least that. Up to there rows may go, while they are read, as
// they may have gone before. A transaction that is still on its way to commit
// is not in the snapshot and is relayed as usual.
func (t *tail) lose(ctx context.Context) error {
	now, err := t.moment(ctx)
	if err != nil {
		return err
	}
	nothing := snapshot{xmin: 1, xmax: 1} // the first id that Postgres gives out is 3
	t.at.LSN, t.at.Snapshot, t.at.Target, t.at.After = now.inserted, nothing, &now.snapshot, &cursor{}
	t.purged = true
	return t.emit(step{patterns: t.source.purge, at: t.at.String()})
}

func (t *tail) follow(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		if t.at.Target != nil { // the rest of a backlog that a former relay began, or all that is there
			if err := t.pass(ctx); err != nil {
				return err
			}
		}
		if err := t.tick(ctx); err != nil {
			return err
		}
		timer.Reset(t.source.poll)
	}
}

// tick reads what committed since the last one.
func (t *tail) tick(ctx context.Context) error {
	now, err := t.moment(ctx)
	if err != nil {
		return err
	}
	t.pending.saw(now.flushed)
	if !now.snapshot.same(t.at.Snapshot) {
		t.at.LSN, t.at.Target, t.at.After = now.inserted, &now.snapshot, &cursor{}
		return t.pass(ctx)
	}
	if err := t.settle(ctx); err != nil {
		return err
	}
	return t.idle()
}

// idle reports, once in a while, that there was nothing. It also hands over
// the positions that only transactions of others moved, or an idle source
// would stay behind until its position is cut off.
func (t *tail) idle() error {
	now := time.Now()
	if now.Sub(t.reported) < report {
		return nil
	}
	t.reported = now
	return t.emit(step{position: t.pending.take(now), at: t.at.String(), idle: true, text: t.text()})
}

// text names the transaction that this is at, among those that are read.
func (t *tail) text() string {
	xid := t.at.Snapshot.xmax
	if t.at.After != nil {
		xid = max(xid, t.at.After.Txid)
	}
	return fmt.Sprintf("transaction %d at %s", xid, t.at.LSN)
}

// pass reads everything up to the target, chunk by chunk, each with a
// statement of its own, so that no transaction stays open.
func (t *tail) pass(ctx context.Context) error {
	found := false
	for more := true; more; {
		c := chunk{seen: map[string]struct{}{}, limit: t.limit}
		prunedBelow, err := t.rows(ctx, t.page(), c.add)
		if err != nil {
			return err
		}
		if prunedBelow > t.at.Snapshot.xmin && !t.purged {
			return errLost
		}
		if more = c.more(); more {
			t.at.After = &c.last
		} else {
			t.at, t.purged = t.at.done(), false
		}
		t.adapt(&c)
		t.pending.add(t.at, time.Now())
		if err := t.settle(ctx); err != nil {
			return err
		}
		if len(c.keys) == 0 {
			continue
		}
		found = true
		st := c.step()
		st.position, st.at, st.text = t.pending.take(time.Now()), t.at.String(), t.text()
		if err := t.emit(st); err != nil {
			return err
		}
	}
	if found {
		return nil
	}
	return t.idle()
}

// page is where the pass goes on.
func (t *tail) page() page {
	p := page{late: t.at.Snapshot.late(*t.at.Target, t.at.After.Txid), afterOld: *t.at.After, after: *t.at.After, target: *t.at.Target, limit: t.limit}
	if begin := (cursor{Txid: t.at.Snapshot.xmax, ID: math.MinInt64}); p.after.compare(begin) < 0 {
		p.after = begin
	}
	return p
}

// adapt asks for fewer rows after a chunk that was cut off for its size: the
// rest of its rows came over the wire for nothing.
func (t *tail) adapt(c *chunk) {
	if c.full {
		t.limit = max(c.rows, 1)
		return
	}
	t.limit = min(t.limit*2, chunkRows)
}

// settle learns how far the WAL is flushed while a position waits for it, and
// sees to it where nobody else does: on an idle server the last, partly filled
// page, or a commit that did not wait, can stay in memory for long.
func (t *tail) settle(ctx context.Context) error {
	if !t.pending.waits() {
		return nil
	}
	flushed, err := t.flushed(ctx, t.pending.overdue(time.Now()))
	if err != nil {
		return err
	}
	t.pending.saw(flushed)
	return nil
}
