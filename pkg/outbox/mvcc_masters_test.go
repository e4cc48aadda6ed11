package outbox

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Each master of a cache remembers a position of its own, and one that can not
// be reached gets neither deletes nor positions until the relay begins again.
func TestEveryMasterGetsWhatItMissed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newMVCC(t)
		m.lie = true // without a crash that is as good
		relay := m.relay(start(m))
		type master struct {
			stored string
			got    map[string]bool
			away   bool
		}
		masters := make([]*master, 2)
		for i := range masters {
			masters[i] = &master{stored: relay.stored, got: map[string]bool{}}
		}
		begin := func() {
			stored := make([]string, len(masters))
			for i, one := range masters {
				one.away, stored[i] = false, one.stored
			}
			at, reason := covered(stored, position{home: home{System: "1", Timeline: "00000001"}, LSN: lsn(len(m.wal))}, 0)
			require.Empty(t, reason)
			relay.resume(m, at)
			relay.emit = func(st step) error {
				if rapid.Bool().Draw(t, "a master goes") {
					rapid.SampledFrom(masters).Draw(t, "this one").away = true
				}
				for _, one := range masters {
					if one.away {
						continue
					}
					for _, key := range st.keys {
						one.got[key] = true
					}
					if st.position != "" {
						one.stored = st.position
					}
				}
				if rapid.IntRange(0, 2).Draw(t, "the relay stops") == 0 {
					return errStops
				}
				return nil
			}
		}
		begin()
		for range rapid.IntRange(10, 150).Draw(t, "steps") {
			m.step()
			if rapid.IntRange(0, 3).Draw(t, "look") > 0 {
				continue
			}
			relay.limit = rapid.IntRange(1, 2).Draw(t, "limit")
			if err := relay.look(t.Context()); err != nil {
				require.ErrorIs(t, err, errStops)
				begin()
			}
		}
		begin()
		relay.limit, relay.emit = chunkRows, func(st step) error {
			for _, one := range masters {
				for _, key := range st.keys {
					one.got[key] = true
				}
			}
			return nil
		}
		require.NoError(t, relay.look(t.Context()))
		for i, one := range masters {
			for _, r := range m.rows {
				require.True(t, one.got[r.keys[0]], "master %d misses row %v", i, r.at)
			}
		}
	})
}
