package outbox

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func drawSnapshot(t *rapid.T, label string) snapshot {
	s := snapshot{xmin: rapid.Uint64Range(3, 1<<40).Draw(t, label+" xmin")}
	s.xmax = s.xmin
	for range rapid.IntRange(0, 5).Draw(t, label+" running") {
		s.xip = append(s.xip, s.xmax)
		s.xmax += rapid.Uint64Range(1, 9).Draw(t, label+" gap")
	}
	return s
}

func TestPositionsSurviveTheirTextForm(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := position{System: "7301", Timeline: "0000000A", LSN: lsn(rapid.Uint64().Draw(t, "lsn")), Snapshot: drawSnapshot(t, "from")}
		if rapid.Bool().Draw(t, "on the way") {
			target := drawSnapshot(t, "to")
			p.Target, p.After = &target, &cursor{rapid.Uint64().Draw(t, "txid"), rapid.Int64().Draw(t, "id")}
		}
		parsed, err := parsePosition(p.String())
		require.NoError(t, err)
		require.Equal(t, p, parsed)
	})
	assert.JSONEq(t, `{"system":"1","timeline":"00000001","lsn":"1/2A","snapshot":"5:9:5,7"}`,
		position{System: "1", Timeline: "00000001", LSN: 1<<32 | 42, Snapshot: snapshot{5, 9, []uint64{5, 7}}}.String())
}

func TestDamagedPositionsAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, `{`, `{}`, `null`, `"x"`, `{"db":"a","id":"1","token":"t"}`,
		`{"system":"1","timeline":"1","lsn":"0/1","snapshot":"9:5:"}`,
		`{"system":"1","timeline":"1","lsn":"0/1","snapshot":"5:9:7,6"}`,
		`{"system":"1","timeline":"1","lsn":"0/1","snapshot":"5:9:9"}`,
		`{"system":"1","timeline":"1","lsn":"0/1","snapshot":"0:0:"}`,
		`{"system":"1","timeline":"1","lsn":"01","snapshot":"5:9:"}`,
		`{"system":"1","timeline":"1","lsn":"0/1","snapshot":"5:9:","target":"5:9:"}`,
	} {
		_, err := parsePosition(text)
		require.Error(t, err, text)
	}
}

func TestTheOldestPositionIsChosen(t *testing.T) {
	t.Parallel()
	at := func(snap string) position {
		s, err := parseSnapshot(snap)
		require.NoError(t, err)
		return position{System: "1", Timeline: "1", Snapshot: s, LSN: 5}
	}
	to := func(p position, target string, txid uint64) position {
		s := at(target).Snapshot
		p.Target, p.After = &s, &cursor{txid, 1}
		return p
	}
	ordered := []position{
		at("5:9:5,7"), to(at("5:9:5,7"), "12:12:", 5), to(at("5:9:5,7"), "12:12:", 10), at("5:9:5"), at("8:9:8"), at("9:9:"), at("9:12:9,10"), at("12:12:"),
	}
	for i, older := range ordered {
		for _, newer := range ordered[i:] {
			assert.Equal(t, older, older.older(newer))
			assert.Equal(t, older, newer.older(older))
		}
	}
	base := at("5:9:5,7")
	assert.Equal(t, base, to(base, "12:12:", 10).older(to(base, "13:13:", 6)), "two targets: back to where both began")

	texts := []string{ordered[4].String(), ordered[1].String(), ordered[7].String()}
	here := position{System: "1", Timeline: "1", LSN: 5}
	got, reason := oldest(texts, here, 5)
	assert.Empty(t, reason)
	assert.Equal(t, ordered[1], got)
	for name, bad := range map[string][]string{"none": nil, "one is missing": {texts[0], ""}, "one is damaged": {texts[0], "{"}} {
		_, reason := oldest(bad, here, 0)
		assert.NotEmpty(t, reason, name)
	}
	_, reason = oldest(texts, here, 6)
	assert.Contains(t, reason, "pruned")
}

func TestASnapshotSeesWhatHasEnded(t *testing.T) {
	t.Parallel()
	s, err := parseSnapshot("5:9:5,7")
	require.NoError(t, err)
	var seen []uint64
	for xid := uint64(3); xid < 12; xid++ {
		if s.sees(xid) {
			seen = append(seen, xid)
		}
	}
	assert.Equal(t, []uint64{3, 4, 6, 8}, seen)
	next := snapshot{xmin: 7, xmax: 12, xip: []uint64{7, 10}}
	assert.Equal(t, []uint64{5}, s.late(next, 0))
	assert.Empty(t, s.late(next, 6))
	assert.True(t, slices.Equal(s.xip, []uint64{5, 7}))
}

func TestAPositionWaitsUntilItsWALIsFlushed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(l lsn) position { return position{System: "1", LSN: l} }
	var d durable
	d.saw(10)
	assert.Empty(t, d.take(now))
	d.add(at(10), now)
	assert.Equal(t, at(10).String(), d.take(now))
	assert.Empty(t, d.take(now), "once")

	// Under load the newest is never flushed; the oldest still gets through.
	d.add(at(20), now)
	for l := lsn(21); l < 40; l++ {
		d.add(at(l), now)
	}
	d.saw(19)
	assert.Empty(t, d.take(now))
	assert.True(t, d.waits())
	assert.False(t, d.overdue(now))
	assert.True(t, d.overdue(now.Add(forceAfter)))
	d.saw(30)
	assert.Equal(t, at(20).String(), d.take(now))
	assert.Empty(t, d.take(now))
	d.add(at(40), now)
	d.saw(45)
	assert.Equal(t, at(40).String(), d.take(now), "the newest, where it is flushed")
	assert.False(t, d.waits())
}
