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
		p := position{home: home{System: "7301", Timeline: "0000000A"}, LSN: lsn(rapid.Uint64().Draw(t, "lsn")), Snapshot: drawSnapshot(t, "from")}
		if rapid.Bool().Draw(t, "on the way") {
			target := drawSnapshot(t, "to")
			p.Target, p.After = &target, &cursor{rapid.Uint64().Draw(t, "txid"), rapid.Int64().Draw(t, "id")}
		}
		parsed, err := parsePosition(p.String())
		require.NoError(t, err)
		require.Equal(t, p, parsed)
	})
	assert.JSONEq(t, `{"system":"1","timeline":"00000001","lsn":"1/2A","snapshot":"5:9:5,7"}`,
		position{home: home{System: "1", Timeline: "00000001"}, LSN: 1<<32 | 42, Snapshot: snapshot{5, 9, []uint64{5, 7}}}.String())
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

// at is a position on the way to a target, "" for none, up to a cursor.
func at(t require.TestingT, from, to string, txid uint64, id int64) position {
	s, err := parseSnapshot(from)
	require.NoError(t, err)
	p := position{home: home{System: "1", Timeline: "1"}, LSN: lsn(s.xmax), Snapshot: s}
	if to == "" {
		return p
	}
	target, err := parseSnapshot(to)
	require.NoError(t, err)
	p.LSN, p.Target, p.After = lsn(target.xmax), &target, &cursor{txid, id}
	return p
}

func TestReadingGoesOnBehindWhatAllPositionsCover(t *testing.T) {
	t.Parallel()
	moment := func(snap string) position { return at(t, snap, "", 0, 0) }
	way := func(from, to string, txid uint64, id int64) position { return at(t, from, to, txid, id) }
	for name, c := range map[string]struct{ a, b, both position }{
		"the same":                              {moment("5:9:5,7"), moment("5:9:5,7"), moment("5:9:5,7")},
		"two moments":                           {moment("5:9:5,7"), moment("9:12:9,10"), moment("5:9:5,7")},
		"one transaction ended":                 {moment("5:9:5,7"), moment("5:9:5"), moment("5:9:5,7")},
		"the first ended":                       {moment("5:9:5,7"), moment("7:9:7"), moment("5:9:5,7")},
		"where a rewind begins":                 {moment("7:7:"), moment("5:9:5,8"), moment("5:7:5")},
		"a way from a moment":                   {moment("5:9:5"), way("5:9:5", "12:12:", 10, 1), moment("5:9:5")},
		"one cursor on one way":                 {way("5:9:5", "12:12:", 10, 1), way("5:9:5", "12:12:", 10, 1), way("5:9:5", "12:12:", 10, 1)},
		"two rows of one transaction":           {way("5:9:5", "12:12:", 10, 1), way("5:9:5", "12:12:", 10, 2), way("5:9:5", "12:12:", 10, 1)},
		"two transactions on one way":           {way("5:9:5", "12:12:", 5, 9), way("5:9:5", "12:12:", 10, 2), way("5:9:5", "12:12:", 5, 9)},
		"two ways from a moment":                {way("5:9:5", "12:12:", 10, 1), way("5:9:5", "14:14:", 6, 1), way("5:9:5", "12:12:", 6, 1)},
		"two ways, the longer one is further":   {way("5:9:5", "12:12:", 10, 1), way("5:9:5", "14:14:", 13, 1), way("5:9:5", "12:12:", 10, 1)},
		"a moment before the way":               {moment("5:8:5"), way("5:9:5", "12:12:", 10, 1), moment("5:8:5")},
		"a moment at the target":                {way("5:9:5", "12:12:", 10, 1), moment("12:12:"), way("5:9:5", "12:12:", 10, 1)},
		"a moment behind the target":            {way("5:9:5", "12:12:", 10, 1), moment("15:15:"), way("5:9:5", "12:12:", 10, 1)},
		"a moment in the middle of the way":     {way("10:10:", "100:100:", 50, 1), moment("30:30:"), way("10:10:", "30:30:", 50, 1)},
		"that one, with open transactions":      {way("10:10:", "100:101:100", 50, 1), moment("20:60:20,51"), way("10:10:", "20:60:20,51", 50, 1)},
		"a way from the middle of another":      {way("10:10:", "100:100:", 50, 1), way("30:30:", "120:120:", 40, 1), way("10:10:", "100:100:", 40, 1)},
		"that one, with one target":             {way("10:10:", "100:100:", 50, 1), way("30:30:", "100:100:", 70, 1), way("10:10:", "100:100:", 50, 1)},
		"that one, with an earlier target":      {way("10:10:", "100:100:", 50, 1), way("30:30:", "90:90:", 70, 1), way("10:10:", "90:90:", 50, 1)},
		"a way that begins behind another":      {way("10:10:", "20:20:", 15, 1), way("30:30:", "40:40:", 12, 1), way("10:10:", "20:20:", 15, 1)},
		"a way that begins where another ends":  {way("10:10:", "20:20:", 15, 1), way("20:20:", "40:40:", 12, 1), way("10:10:", "20:20:", 15, 1)},
		"a way that has just begun":             {way("10:10:", "20:20:", 0, 0), moment("15:15:"), way("10:10:", "15:15:", 0, 0)},
		"where a rewind begins, and on the way": {way("7:7:", "12:12:", 10, 1), moment("5:9:5"), way("5:7:5", "5:9:5", 10, 1)},
	} {
		assert.Equal(t, c.both.String(), c.a.and(c.b).String(), name)
		assert.Equal(t, c.both.String(), c.b.and(c.a).String(), "%s, the other way round", name)
		assert.True(t, c.both.within(c.a) && c.both.within(c.b), name)
		same := c.both.String() == c.a.String()
		assert.Equal(t, same, c.a.within(c.b), "%s: the first covers what the second covers, and maybe more", name)
	}
}

// covers reports whether the row was deleted, or was none when it was looked for.
func (p position) covers(row cursor) bool {
	return p.Snapshot.sees(row.Txid) || p.Target != nil && p.Target.sees(row.Txid) && row.compare(*p.After) <= 0
}

func TestWhatTwoPositionsCoverIsNeverMoreThanEachDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) position {
			few := func(what string, from, to uint64) snapshot { // 3 to 12, with gaps
				s := snapshot{xmax: rapid.Uint64Range(from, to).Draw(t, name+what)}
				for xid := uint64(3); xid+1 < s.xmax; xid++ {
					if rapid.IntRange(0, 3).Draw(t, name+what+" runs") == 0 {
						s.xip = append(s.xip, xid)
					}
				}
				s.xmin = min(s.xmax, append(s.xip, s.xmax)[0])
				return s
			}
			p := position{home: home{System: "1", Timeline: "1"}, LSN: lsn(rapid.IntRange(1, 9).Draw(t, name+"lsn")), Snapshot: few("from", 3, 9)}
			if rapid.Bool().Draw(t, name+"on the way") {
				target := few("to", p.Snapshot.xmax+1, 12)
				target.xip = slices.DeleteFunc(target.xip, p.Snapshot.sees) // what was seen stays seen
				target.xmin = append(target.xip, target.xmax)[0]
				p.Target, p.After = &target, &cursor{rapid.Uint64Range(0, 12).Draw(t, name+"txid"), rapid.Int64Range(0, 2).Draw(t, name+"id")}
			}
			return p
		}
		a, b := draw("a "), draw("b ")
		both := a.and(b)
		for txid := uint64(3); txid < 13; txid++ {
			for id := int64(1); id < 3; id++ {
				row := cursor{txid, id}
				if both.covers(row) {
					require.True(t, a.covers(row) && b.covers(row), "%v: %s and %s is %s", row, a, b, both)
				}
				if a.Snapshot.sees(txid) && b.Snapshot.sees(txid) {
					require.True(t, both.covers(row), "%v: %s and %s is %s", row, a, b, both)
				}
			}
		}
		require.Equal(t, both.String(), b.and(a).String())
		require.Equal(t, a.String(), a.and(a).String())
		require.True(t, both.within(a) && both.within(b))
		parsed, err := parsePosition(both.String())
		require.NoError(t, err)
		require.Equal(t, both.String(), parsed.String())
	})
}

func TestOneUnusablePositionIsEnough(t *testing.T) {
	t.Parallel()
	good := at(t, "5:9:5", "12:12:", 10, 1)
	here := position{home: home{System: "1", Outbox: "16384/16402", Timeline: "1"}, LSN: 12}
	newer := at(t, "12:12:", "", 0, 0)
	newer.Outbox = "16384/16402" // the others are of the first version, which did not note it
	got, reason := covered([]string{at(t, "9:9:", "", 0, 0).String(), good.String(), newer.String()}, here, 5)
	assert.Empty(t, reason)
	both := at(t, "5:9:5", "9:9:", 10, 1)
	both.Outbox = "16384/16402"
	assert.Equal(t, both.String(), got.String())
	late, other, beside, promoted := good, good, good, good
	late.LSN, other.System, beside.Outbox, promoted.Timeline = 13, "2", "16384/16403", "2"
	for says, bad := range map[string]string{
		"remembers none": "", "can not be read": "{", "another Postgres": other.String(), "promoted": promoted.String(),
		"another outbox of the server": beside.String(),
		"back in time":                 late.String(), "pruned": at(t, "4:4:", "", 0, 0).String(),
	} {
		for _, stored := range [][]string{{bad}, {bad, good.String()}, {good.String(), bad}} {
			_, reason := covered(stored, here, 5)
			assert.Contains(t, reason, says)
		}
	}
	_, reason = covered(nil, here, 0)
	assert.NotEmpty(t, reason)
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
	at := func(l lsn) position { return position{home: home{System: "1"}, LSN: l} }
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
