package outbox

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// mvcc is a model of Postgres: transactions get an id when they first write,
// end in any order, and name their id in the WAL, of which a crash keeps what
// was flushed.
type mvcc struct {
	t           *rapid.T
	nextXid     uint64
	latest      uint64 // the highest id that has ended
	nextID      int64
	running     map[uint64][]row
	rows        []row // committed
	gone        []row // pruned
	prunedBelow uint64
	wal         []record
	flushed     int
	lie         bool        // tell that all WAL is flushed, as a relay without the flush rule believes
	between     func(*mvcc) // what others do while the relay works
}

type record struct {
	xid    uint64
	commit []row
}

func newMVCC(t *rapid.T) *mvcc {
	return &mvcc{t: t, nextXid: 100, latest: 99, nextID: 1, running: map[uint64][]row{}}
}

func (m *mvcc) snapshot() snapshot {
	s := snapshot{xmin: m.latest + 1, xmax: m.latest + 1}
	for _, xid := range slices.Sorted(maps.Keys(m.running)) {
		if xid < s.xmax {
			s.xmin = min(s.xmin, xid)
			s.xip = append(s.xip, xid)
		}
	}
	return s
}

func (m *mvcc) begin() {
	m.running[m.nextXid] = nil
	m.wal = append(m.wal, record{xid: m.nextXid})
	m.nextXid++
}

func (m *mvcc) insert(xid uint64) {
	r := row{at: cursor{xid, m.nextID}, keys: []string{fmt.Sprintf("%d/%d/%d", xid, m.nextID, len(m.wal))}}
	m.running[xid] = append(m.running[xid], r)
	m.nextID++
}

func (m *mvcc) end(xid uint64, commit bool) {
	rec := record{xid: xid}
	if commit {
		rec.commit = m.running[xid]
		m.rows = append(m.rows, rec.commit...)
	}
	m.wal = append(m.wal, rec)
	m.latest = max(m.latest, xid)
	delete(m.running, xid)
}

// crash forgets what was not flushed. Ids are durable where a record names them.
func (m *mvcc) crash() {
	m.wal = m.wal[:m.flushed]
	m.rows, m.running, m.nextXid = nil, map[uint64][]row{}, 100
	for _, rec := range m.wal {
		m.rows = append(m.rows, rec.commit...)
		m.nextXid = max(m.nextXid, rec.xid+1)
	}
	m.latest = m.nextXid - 1
}

// step does one thing that applications and the server do.
func (m *mvcc) step() {
	running := slices.Sorted(maps.Keys(m.running))
	what := rapid.IntRange(0, 9).Draw(m.t, "what")
	switch {
	case what < 3 || len(running) == 0:
		m.begin()
	case what < 6:
		m.insert(rapid.SampledFrom(running).Draw(m.t, "insert"))
	case what < 9:
		m.end(rapid.SampledFrom(running).Draw(m.t, "end"), rapid.IntRange(0, 4).Draw(m.t, "commit") > 0)
	default:
		m.flushed = rapid.IntRange(m.flushed, len(m.wal)).Draw(m.t, "flushed")
	}
}

func (m *mvcc) moment(context.Context) (moment, error) {
	return moment{snapshot: m.snapshot(), inserted: lsn(len(m.wal)), flushed: m.flushedLSN()}, nil
}

func (m *mvcc) flushedLSN() lsn {
	if m.lie {
		return lsn(len(m.wal))
	}
	return lsn(m.flushed)
}

// read is what sql/rows.sql does.
func (m *mvcc) read(_ context.Context, p page, each func(row) bool) (uint64, error) {
	if m.between != nil {
		m.between(m)
	}
	var found []row
	for _, r := range m.rows {
		old := slices.Contains(p.late, r.at.Txid) && (r.at.Txid != p.afterOld.Txid || r.at.ID > p.afterOld.ID)
		young := r.at.compare(p.after) > 0 && r.at.Txid < p.target.xmax && p.target.sees(r.at.Txid)
		if old || young {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b row) int { return a.at.compare(b.at) })
	for _, r := range found[:min(len(found), p.limit)] {
		if !each(r) {
			break
		}
	}
	return m.prunedBelow, nil
}

// relay is a tail on the model that notes what it deletes and remembers.
type modelRelay struct {
	tail
	delivered map[string]int
	stored    string
}

func (m *mvcc) relay(at position) *modelRelay {
	r := &modelRelay{delivered: map[string]int{}, stored: at.String()}
	r.resume(m, at)
	return r
}

func (r *modelRelay) resume(m *mvcc, at position) {
	r.tail = tail{
		source: &Source{observer: invalidation.NoObserver()}, at: at,
		moment: m.moment, rows: m.read,
		flushed: func(_ context.Context, force bool) (lsn, error) {
			if force {
				m.flushed = len(m.wal)
			}
			return m.flushedLSN(), nil
		},
		emit: func(st step) error {
			for _, key := range st.keys {
				r.delivered[key]++
			}
			if st.position != "" {
				r.stored = st.position
			}
			return nil
		},
	}
}

// restart goes on from the stored position, as after any lost connection.
func (r *modelRelay) restart(t require.TestingT, m *mvcc) {
	at, err := parsePosition(r.stored)
	require.NoError(t, err)
	r.resume(m, at)
}

func (r *modelRelay) once(t *rapid.T) {
	r.limit = rapid.IntRange(1, 4).Draw(t, "limit")
	require.NoError(t, r.look(t.Context()))
}

// look is one round of follow.
func (r *modelRelay) look(ctx context.Context) error {
	if r.at.Target != nil {
		if err := r.pass(ctx); err != nil {
			return err
		}
	}
	return r.tick(ctx)
}

// naive is a cursor on the id.
type naive struct {
	last int64
	seen map[string]bool
}

func (n *naive) once(m *mvcc) {
	for _, r := range slices.SortedFunc(slices.Values(m.rows), func(a, b row) int { return cmp.Compare(a.at.ID, b.at.ID) }) {
		if r.at.ID > n.last {
			n.last = r.at.ID
			n.seen[r.keys[0]] = true
		}
	}
}

func start(m *mvcc) position {
	return position{home: home{System: "1", Timeline: "00000001"}, Snapshot: m.snapshot(), LSN: lsn(m.flushed)}
}

func TestSnapshotDifferenceDeliversEveryCommittedRowOnce(t *testing.T) {
	t.Parallel()
	lost := 0
	rapid.Check(t, func(t *rapid.T) {
		m := newMVCC(t)
		m.between = func(m *mvcc) { m.step() }
		relay, cursor := m.relay(start(m)), &naive{seen: map[string]bool{}}
		for range rapid.IntRange(10, 120).Draw(t, "steps") {
			m.step()
			if rapid.IntRange(0, 3).Draw(t, "look") == 0 {
				relay.once(t)
				cursor.once(m)
			}
		}
		for xid := range m.running {
			m.end(xid, true)
		}
		m.between = nil
		relay.once(t)
		cursor.once(m)
		require.Len(t, relay.delivered, len(m.rows), "nothing is delivered that did not commit")
		for _, r := range m.rows {
			require.Equal(t, 1, relay.delivered[r.keys[0]], "row %v", r.at)
			if !cursor.seen[r.keys[0]] {
				lost++
			}
		}
	})
	assert.Positive(t, lost, "the naive cursor loses rows on the same runs")
}

func TestNothingIsLostWhenTheRelayRestarts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newMVCC(t)
		relay := m.relay(start(m))
		for range rapid.IntRange(10, 120).Draw(t, "steps") {
			m.step()
			switch rapid.IntRange(0, 5).Draw(t, "relay") {
			case 0:
				relay.once(t)
			case 1:
				relay.restart(t, m)
			}
		}
		relay.once(t)
		for _, r := range m.rows {
			require.Positive(t, relay.delivered[r.keys[0]], "row %v", r.at)
		}
	})
}

// crashes runs the model with crashes of the server and returns the rows that
// were committed, and survived, and never delivered.
func crashes(t *rapid.T, lie bool) (lost []row) {
	m := newMVCC(t)
	m.lie = lie
	relay := m.relay(start(m))
	for range rapid.IntRange(1, 6).Draw(t, "crashes") {
		for range rapid.IntRange(5, 40).Draw(t, "steps") {
			m.step()
			if rapid.IntRange(0, 2).Draw(t, "look") == 0 {
				relay.once(t)
			}
		}
		m.crash()
		relay.restart(t, m)
	}
	for range rapid.IntRange(5, 40).Draw(t, "steps") {
		m.step()
	}
	relay.once(t)
	for _, r := range m.rows {
		if relay.delivered[r.keys[0]] == 0 {
			lost = append(lost, r)
		}
	}
	return lost
}

// Anomaly 50, on the model.
func TestNothingIsLostWhenIDsAreGivenOutAgain(t *testing.T) {
	t.Parallel()
	for range 10 {
		rapid.Check(t, func(t *rapid.T) { require.Empty(t, crashes(t, false)) })
	}
	lost := 0
	for tries := 0; lost == 0 && tries < 50; tries++ {
		rapid.Check(t, func(t *rapid.T) { lost += len(crashes(t, true)) })
	}
	assert.Positive(t, lost, "without the flush rule rows are lost")
}

func TestChunksAreBoundedByBytes(t *testing.T) {
	t.Parallel()
	large := string(make([]byte, chunkBytes/4))
	m := &mvcc{nextXid: 200, latest: 149, running: map[uint64][]row{}}
	for i := range 12 {
		m.rows = append(m.rows, row{at: cursor{uint64(100 + i/3), int64(i)}, keys: []string{large + strconv.Itoa(i), large + strconv.Itoa(i)}})
	}
	relay := m.relay(position{home: home{System: "1", Timeline: "00000001"}, Snapshot: snapshot{xmin: 100, xmax: 100}})
	steps, emit := 0, relay.emit
	relay.emit = func(st step) error {
		steps++
		assert.LessOrEqual(t, len(st.keys), 4)
		return emit(st)
	}
	relay.limit = chunkRows
	require.NoError(t, relay.tick(t.Context()))
	assert.Len(t, relay.delivered, 12)
	assert.GreaterOrEqual(t, steps, 3)
	assert.Nil(t, relay.at.Target)
	assert.Equal(t, int64(math.MinInt64), relay.pageOfNothing().after.ID)
}

// pageOfNothing is where the next pass would begin.
func (r *modelRelay) pageOfNothing() page {
	r.at.Target, r.at.After = &snapshot{xmin: r.at.Snapshot.xmax, xmax: r.at.Snapshot.xmax}, &cursor{}
	return r.page()
}
