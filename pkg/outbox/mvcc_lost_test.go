package outbox

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var errStops = errors.New("the relay stops")

// prune removes rows that a relay for another cache has passed.
func (m *mvcc) prune() {
	passed := m.snapshot().xmin
	m.rows = slices.DeleteFunc(m.rows, func(r row) bool {
		if r.at.Txid >= passed || rapid.Bool().Draw(m.t, "too young") {
			return false
		}
		m.gone = append(m.gone, r)
		m.prunedBelow = max(m.prunedBelow, r.at.Txid+1)
		return true
	})
}

func TestALostPositionReadsEveryRowThatIsLeft(t *testing.T) {
	t.Parallel()
	for range 10 {
		rapid.Check(t, readsWhatIsLeft)
	}
}

// readsWhatIsLeft runs the model with positions that are lost. No glob matches
// a key here, so only a row deletes its key. A row that is gone is left to the
// purge, which can help only where everybody saw what the row stands for before
// the purge began.
func readsWhatIsLeft(t *rapid.T) {
	m := newMVCC(t)
	relay := &losingRelay{modelRelay: m.relay(start(m)), left: map[string]bool{}}
	m.between = func(m *mvcc) {
		for range rapid.IntRange(1, 6).Draw(t, "steps of others") {
			m.step()
		}
		if rapid.Bool().Draw(t, "somebody prunes") {
			m.prune()
		}
	}
	for range rapid.IntRange(10, 100).Draw(t, "steps") {
		m.step()
		switch rapid.IntRange(0, 9).Draw(t, "then") {
		case 0:
			relay.stored = ""
		case 1, 2, 3:
			if err := relay.run(t, m); err != nil && !errors.Is(err, errLost) {
				require.ErrorIs(t, err, errStops)
			}
		}
	}
	m.between = nil
	for tries := 0; relay.run(t, m) != nil; tries++ {
		require.Less(t, tries, 1000, "it never gets through")
	}
	for _, r := range m.rows {
		require.Positive(t, relay.delivered[r.keys[0]], "row %v is there and was not read", r.at)
	}
	for _, r := range m.gone {
		require.True(t, relay.delivered[r.keys[0]] > 0 || relay.left[r.keys[0]], "row %v is gone, and was not there when the last purge began", r.at)
	}
}

// losingRelay is a relay that loses its position, and stops at any time.
type losingRelay struct {
	*modelRelay

	left map[string]bool // the keys that were committed when the last purge began
}

// run begins where a start would, and looks a few times.
func (r *losingRelay) run(t *rapid.T, m *mvcc) error {
	here := position{home: home{System: "1", Timeline: "00000001"}, LSN: lsn(len(m.wal))}
	at, reason := covered([]string{r.stored}, here, m.prunedBelow)
	if reason != "" {
		at = here
	}
	r.resume(m, at)
	r.source.purge, r.limit = []string{"k:*"}, rapid.IntRange(1, 3).Draw(t, "limit")
	apply := r.emit
	r.emit = func(st step) error {
		if rapid.IntRange(0, 9).Draw(t, "the relay stops") == 0 {
			return errStops
		}
		if st.patterns != nil {
			r.purge(m)
		}
		return apply(st)
	}
	if reason != "" {
		if err := r.lose(t.Context()); err != nil {
			return err
		}
	}
	for range rapid.IntRange(1, 5).Draw(t, "looks") {
		if err := r.look(t.Context()); err != nil {
			return err
		}
	}
	return nil
}

func (r *losingRelay) purge(m *mvcc) {
	clear(r.delivered)
	for _, committed := range slices.Concat(m.gone, m.rows) {
		r.left[committed.keys[0]] = true
	}
	if m.between != nil {
		m.between(m)
	}
}
