package binlog

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// What a cache remembers outlives the program that wrote it.
const writtenByTheFirstVersion = `{"server":"3e11fa47-71ca-11e1-9e33-c80aa9429562","gtids":"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77:80:blue:1-3,9f8b2c10-0000-11ee-8000-0242ac110002:5","rules":["a1b2c3d4e5f6","0123456789ab"]}`

func TestPositionsOfTheFirstVersionStayReadable(t *testing.T) {
	t.Parallel()
	p, err := parsePosition(writtenByTheFirstVersion)
	require.NoError(t, err)
	assert.Equal(t, "3e11fa47-71ca-11e1-9e33-c80aa9429562", p.server)
	assert.Equal(t, []string{"a1b2c3d4e5f6", "0123456789ab"}, p.rules)
	assert.Equal(t, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77:80:blue:1-3,9f8b2c10-0000-11ee-8000-0242ac110002:5", p.done.String())
	same := p.encode() == writtenByTheFirstVersion
	assert.True(t, same, "and it is written as it was, for an older program that takes over: %s", p.encode())
}

const (
	serverA = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	serverB = "9f8b2c10-0000-11ee-8000-0242ac110002"
)

// at is a stored position.
func at(gtids string, rules ...string) string {
	text, _ := json.Marshal(positionJSON{Server: serverA, GTIDs: gtids, Rules: rules}) // strings: it does not fail
	return string(text)
}

func set(t *testing.T, gtids string) gtidSet {
	t.Helper()
	parsed, err := parseGTIDs(gtids)
	require.NoError(t, err)
	return parsed
}

func TestReadingGoesOnBehindWhatAllPositionsCover(t *testing.T) {
	t.Parallel()
	executed, purged := set(t, serverA+":1-10:red:1-3,"+serverB+":1-5"), set(t, serverA+":1-2")
	for name, c := range map[string]struct {
		stored []string
		gtids  string
		rules  []string
	}{
		"one":                      {[]string{at(serverA+":1-7", "a", "b")}, serverA + ":1-7", []string{"a", "b"}},
		"a log's prefixes":         {[]string{at(serverA+":1-7", "a"), at(serverA+":1-5", "a", "b"), at(serverA+":1-9", "b", "a")}, serverA + ":1-5", []string{"a"}},
		"the same":                 {[]string{at(serverA+":1-5", "a", "b"), at(serverA+":1-5", "c", "a")}, serverA + ":1-5", []string{"a"}},
		"neither covers the other": {[]string{at(serverA+":1-10", "a"), at(serverA+":1-8,"+serverB+":1-3", "a")}, serverA + ":1-8", []string{"a"}},
		"in another order":         {[]string{at(serverA+":1-8,"+serverB+":1-3", "a"), at(serverA+":1-10", "a")}, serverA + ":1-8", []string{"a"}},
		"gaps":                     {[]string{at(serverA+":1-3:5-9", "a"), at(serverA+":1-4:7-10", "a")}, serverA + ":1-3:7-9", []string{"a"}},
		"tags":                     {[]string{at(serverA+":1-4:red:1-2", "a"), at(serverA+":1-6:red:2-3", "a"), at(serverA+":1-6:red:2", "a")}, serverA + ":1-4:red:2", []string{"a"}},
		"rules of one only":        {[]string{at(serverA+":1-4", "a"), at(serverA+":1-6", "b")}, serverA + ":1-4", []string{}},
	} {
		p, reason := resume(c.stored, executed, purged)
		require.Empty(t, reason, name)
		assert.Equal(t, c.gtids, p.done.String(), name)
		assert.Equal(t, c.rules, p.rules, "%s: a rule that one master does not know was not deleted for there", name)
	}
}

func TestOneLostPositionIsEnough(t *testing.T) {
	t.Parallel()
	// A:9-10 were lost in a failover; B took over.
	executed, purged := set(t, serverA+":1-8,"+serverB+":1-3"), set(t, serverA+":1-2")
	good := at(serverA + ":1-8," + serverB + ":1-3")
	for name, c := range map[string]struct{ bad, says string }{
		"lost by a failover":   {at(serverA + ":1-10"), "never executed"},
		"older than the log":   {at(serverA + ":1"), "has purged"},
		"none":                 {"", "remembers none"},
		"no position of MySQL": {`{"system":"1"}`, "unreadable"},
		"damaged":              {"{", "unreadable"},
	} {
		for _, stored := range [][]string{{c.bad}, {c.bad, good}, {good, c.bad}, {good, c.bad, good}} {
			_, reason := resume(stored, executed, purged)
			assert.Contains(t, reason, c.says, "%s of %d", name, len(stored))
			_, err := logState{now: &position{done: executed}, purged: purged}.limit(stored)
			require.Error(t, err, "nor is it where a replay begins: %s", name)
		}
	}
	_, reason := resume(nil, executed, purged)
	assert.Contains(t, reason, "remembers none")
}

func TestAReplayGoesBackAndKeepsWhatIsOwed(t *testing.T) {
	t.Parallel()
	log := logState{
		now:    &position{server: serverB, done: set(t, serverA+":1-10"), rules: []string{"a", "new"}},
		purged: set(t, serverA+":1-2"),
	}
	bare := func(gtids string) *position { return &position{done: set(t, gtids)} }
	full := func(gtids string, rules ...string) *position {
		return &position{server: serverA, done: set(t, gtids), rules: rules}
	}
	stored := []string{at(serverA+":1-6", "a", "b"), at(serverA+":1-7", "a")}
	for name, c := range map[string]struct {
		given  *position
		stored []string
		rules  []string
		says   string
	}{
		"older":                                {bare(serverA + ":1-4"), stored, []string{"a"}, ""},
		"the oldest that is stored":            {bare(serverA + ":1-6"), stored, []string{"a"}, ""},
		"of rules that are newer":              {full(serverA+":1-6", "a", "new"), stored, []string{"a"}, ""},
		"of rules that are older":              {full(serverA+":1-5", "b"), stored, []string{}, ""},
		"newer":                                {bare(serverA + ":1-10"), stored, nil, "newer than what the cache remembers (" + serverA + ":1-6)"},
		"newer than one":                       {full(serverA+":1-7", "a"), stored, nil, "newer"},
		"neither newer nor older":              {bare(serverA + ":1-2:8"), stored, nil, "newer"},
		"of another server":                    {bare(serverB + ":1"), stored, nil, "never executed"},
		"older than the log":                   {bare(serverA + ":1"), stored, nil, "has purged"},
		"a master remembers none":              {bare(serverA + ":1-4"), []string{stored[0], ""}, nil, "needs no replay"},
		"a stored one is lost":                 {bare(serverA + ":1-4"), []string{stored[0], at(serverB + ":1")}, nil, "purged anyway"},
		"no cache was asked":                   {bare(serverA + ":1-10"), nil, []string{"a", "new"}, ""},
		"no cache was asked, with rules":       {full(serverA+":1-10", "b"), nil, []string{"b"}, ""},
		"no cache was asked, another's":        {bare(serverB + ":1"), nil, nil, "never executed"},
		"no cache was asked, behind the log's": {bare(serverA + ":1-11"), nil, nil, "never executed"},
	} {
		before := c.given.done.String()
		err := log.complete(c.given, c.stored)
		if c.says != "" {
			require.ErrorContains(t, err, c.says, name)
			assert.NotContains(t, err.Error(), "\n")
			continue
		}
		require.NoError(t, err, name)
		assert.Equal(t, c.rules, c.given.rules, name)
		assert.NotEmpty(t, c.given.server, name)
		assert.Equal(t, before, c.given.done.String(), name)
	}
}

func TestIntersectionsHaveWhatBothHave(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Few transactions, so that every gap and every edge comes up.
		all := []string{serverA + ":1", serverA + ":2", serverA + ":3", serverA + ":4", serverA + ":5", serverA + ":red:1", serverA + ":red:2", serverB + ":1", serverB + ":2"}
		some := func(name string) gtidSet {
			chosen := mysql.NewMysqlGTIDSet()
			for _, one := range all {
				if rapid.Bool().Draw(t, name+one) {
					require.NoError(t, chosen.Update(one))
				}
			}
			return &chosen
		}
		a, b := some("a"), some("b")
		both := intersect(a, b)
		for _, one := range all {
			g, err := parseGTIDs(one)
			require.NoError(t, err)
			require.Equal(t, a.Contain(g) && b.Contain(g), both.Contain(g), "%s of %s and %s is %s", one, a, b, both)
		}
		require.True(t, a.Contain(both) && b.Contain(both))
		require.True(t, both.Equal(intersect(b, a)))
		again, err := parseGTIDs(both.String())
		require.NoError(t, err)
		require.True(t, both.Equal(again))
	})
}

func TestPositionsOfOperatorsAreCheckedInOneLine(t *testing.T) {
	t.Parallel()
	const id = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	source := &Source{}
	for _, good := range []string{
		id + ":1", " " + id + ":1-5:7 \n", id + ":1-77,\n9f8b2c10-0000-11ee-8000-0242ac110002:3", id + ":tag:1-5", strings.ToUpper(id) + ":1",
		"{" + id + "}:1", writtenByTheFirstVersion,
	} {
		require.NoError(t, source.CheckPosition(good), good)
	}
	for _, bad := range []string{
		"", " ", "now", id, id + ":", id + ":0", id + ":0-5", id + ":5-3", id + ":-1", id + ":1-2-3", id + ":99999999999999999999", id + ":1,", "'; DROP TABLE users --",
		"{", `{"server":"x"`, `{"server":"","gtids":"","rules":[]}`, `{"server":"x","gtids":"nonsense"}`,
		`{"system":"1","timeline":"00000001","lsn":"0/1","snapshot":"1:1:"}`, strings.Repeat("x", 1000), "a\nb",
	} {
		err := source.CheckPosition(bad)
		require.Error(t, err, bad)
		assert.NotContains(t, err.Error(), "\n")
		assert.Less(t, len(err.Error()), 400)
	}
}

// What passes the check means the same when it is read back.
func FuzzCheckPosition(f *testing.F) {
	f.Add(writtenByTheFirstVersion)
	f.Add("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77:blue:1-3")
	f.Add("{3e11fa47-71ca-11e1-9e33-c80aa9429562}:1")
	f.Add(`{"server":"x","gtids":"3e11fa47-71ca-11e1-9e33-c80aa9429562:0"}`)
	f.Fuzz(func(t *testing.T, text string) {
		given, err := parseGiven(text)
		if err != nil {
			return
		}
		if strings.ContainsAny(given.done.String(), `'"\`+"`;\n") {
			t.Fatalf("%q is unfit for a statement", given.done)
		}
		if given.server == "" {
			given.server = "s"
		}
		again, err := parsePosition(given.encode())
		if err != nil {
			t.Fatalf("%q became %q: %v", text, given.encode(), err)
		}
		if !again.done.Equal(given.done) {
			t.Fatalf("%q became %q", given.done, again.done)
		}
	})
}

func TestEveryGTIDSetIsAPosition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var parts []string
		for range rapid.IntRange(1, 4).Draw(t, "servers") {
			part := []string{rapid.StringMatching(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).Draw(t, "uuid")}
			for range rapid.IntRange(1, 4).Draw(t, "intervals") {
				from := rapid.Int64Range(1, 1<<40).Draw(t, "from")
				part = append(part, fmt.Sprintf("%d-%d", from, from+rapid.Int64Range(0, 1<<20).Draw(t, "length")))
			}
			parts = append(parts, strings.Join(part, ":"))
		}
		text := strings.Join(parts, ",")
		if err := (&Source{}).CheckPosition(text); err != nil {
			t.Fatal(err)
		}
	})
}
