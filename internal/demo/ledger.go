package demo

import (
	"sync"
	"time"
)

// commitsKept is how many commits of a row the ledger remembers.
const commitsKept = 64

// ledger remembers what the database can not tell: when the last versions of
// each row were committed, and whose deletes are still under way.
type ledger struct {
	mu   sync.Mutex
	rows map[int]*rowLedger
}

type rowLedger struct {
	commits   [commitsKept]time.Time // by version modulo commitsKept
	newest    int64
	unsettled int // writes that may still delete the entry
}

func newLedger() *ledger { return &ledger{rows: map[int]*rowLedger{}} }

func (l *ledger) row(id int) *rowLedger {
	r, ok := l.rows[id]
	if !ok {
		r = &rowLedger{newest: 1}
		l.rows[id] = r
	}
	return r
}

// begin notes a write that deletes the entry sooner or later, or never.
func (l *ledger) begin(id int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.row(id).unsettled++
}

// end notes that the write's own delete is done or lost.
func (l *ledger) end(id int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.row(id).unsettled--
}

// commit is called just before the commit, by the only one that may write then:
// whoever can see the version finds its time here.
func (l *ledger) commit(id int, version int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.row(id)
	r.commits[version%commitsKept] = time.Now()
	r.newest = version
}

// settled reports whether no write of the row is under way.
func (l *ledger) settled(id int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.row(id).unsettled == 0
}

// outdated returns when the version was replaced by the next. For a version
// that is older than the ledger remembers it is a later time.
func (l *ledger) outdated(id int, version int64) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.row(id)
	next := max(version+1, r.newest-commitsKept+1)
	return r.commits[next%commitsKept]
}
