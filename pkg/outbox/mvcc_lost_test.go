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

// No glob matches a key here, so only a row deletes its key. A row that is gone
// is left to the purge, which can help only where everybody saw what the row
// stands for before the purge began.
func TestALostPositionReadsEveryRowThatIsLeft(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newMVCC(t)
		relay := m.relay(start(m))
		relay.stored = ""
		left := map[string]bool{} // to the last purge
		apply := func(st step) {
			if st.patterns != nil {
				clear(relay.delivered)
				for _, r := range slices.Concat(m.gone, m.rows) {
					left[r.keys[0]] = true
				}
				if m.between != nil {
					m.between(m)
				}
			}
			for _, key := range st.keys {
				relay.delivered[key]++
			}
			if st.position != "" {
				relay.stored = st.position
			}
		}
		look := func() error {
			here := position{home: home{System: "1", Timeline: "00000001"}, LSN: lsn(len(m.wal))}
			at, reason := covered([]string{relay.stored}, here, m.prunedBelow)
			if reason != "" {
				at = here
			}
			relay.resume(m, at)
			relay.source.purge, relay.limit, relay.emit = []string{"k:*"}, rapid.IntRange(1, 3).Draw(t, "limit"), func(st step) error {
				if rapid.IntRange(0, 9).Draw(t, "the relay stops") == 0 {
					return errStops
				}
				apply(st)
				return nil
			}
			if reason != "" {
				if err := relay.lose(t.Context()); err != nil {
					return err
				}
			}
			for range rapid.IntRange(1, 5).Draw(t, "looks") {
				if err := relay.look(t.Context()); err != nil {
					return err
				}
			}
			return nil
		}
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
				if err := look(); err != nil && !errors.Is(err, errLost) {
					require.ErrorIs(t, err, errStops)
				}
			}
		}
		m.between = nil
		for tries := 0; look() != nil; tries++ {
			require.Less(t, tries, 1000, "it never gets through")
		}
		for _, r := range m.rows {
			require.Positive(t, relay.delivered[r.keys[0]], "row %v is there and was not read", r.at)
		}
		for _, r := range m.gone {
			require.True(t, relay.delivered[r.keys[0]] > 0 || left[r.keys[0]], "row %v is gone, and was not there when the last purge began", r.at)
		}
	})
}
