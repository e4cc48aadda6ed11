package cacheaside

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The explorer runs the real code on a Redis in memory, and lets only one actor go at a time: every command to Redis,
// every load and every commit is a step. It runs all orders of the steps, one after the other, each from the start, but
// does not go on where it finds everything as it was after another order. After each step it checks the guarantee.

// scenario is what gets explored.
type scenario struct {
	processes int
	keys      []string // default: one
	actors    []actor
	before    func(r *exploredRun) // the first step
	options   func(o *Options)
	policy    func(p *Policy)
	view      func(c *Client, p Policy) *View[exploredLoad]
	lose      func(a *actor, args []any) bool // the first of these commands never arrives, nor does a reply
	mayLease  bool                            // a lease may be left over at the end
	replies   bool                            // replies of scripts are steps of their own
	mutant    mutant
}

func (s *scenario) viewOf(c *Client, p Policy) *View[exploredLoad] {
	if s.view != nil {
		return s.view(c, p)
	}
	return For[exploredLoad](c, p)
}

// mutant takes one mechanism away, and says what must come of it.
type mutant struct {
	after  func(c *Client) // before every command and load
	breaks string
	client func(c *Client)
	wire   func(r *exploredRun, a *actor, args []any) // changes what is sent
}

// result is what an exploration found.
type result struct {
	runs, states int
	trace        []string // of the first schedule with something wrong
	schedule     []string // to replay it
	wrong        []string
}

func (f result) String() string {
	return fmt.Sprintf("after %d schedules: %s\n%s\nschedule: %q", f.runs, strings.Join(f.wrong, "; "), strings.Join(f.trace, "\n"), f.schedule)
}

const mostRuns = 40_000

// explore runs every schedule, up to the first with something wrong.
func explore(t *testing.T, s scenario) (found result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newExploreWorld(t, &s)
		defer w.close()
		e := explorer{s: &s, w: w, seen: map[uint64]bool{}, seed: maphash.MakeSeed()}
		for more := true; more && found.wrong == nil; more = e.backtrack() {
			require.Less(t, found.runs, mostRuns, "this is too much to explore")
			r := e.run(t)
			found.runs++
			found.wrong, found.trace = r.wrong, r.trace
		}
		found.states = len(e.seen)
		for _, c := range e.path {
			found.schedule = append(found.schedule, c.taken())
		}
	})
	return found
}

// replay runs one schedule again.
func replay(t *testing.T, s scenario, schedule []string) (wrong []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newExploreWorld(t, &s)
		defer w.close()
		r := w.newRun(t, &s)
		r.start()
		for _, label := range schedule {
			_ = r.choices() // lets time pass where nothing else can
			require.True(t, r.take(label), "nobody is at %q", label)
		}
		if r.wrong == nil && len(r.choices()) == 0 {
			r.checkEnd(s.mayLease)
		}
		r.stop()
		wrong = r.wrong
	})
	return wrong
}

// choice is a point where more than one step may come next.
type choice struct {
	labels []string
	next   int
}

func (c choice) taken() string { return c.labels[c.next] }

type explorer struct {
	s    *scenario
	w    *exploreWorld
	path []choice // of the current schedule
	seen map[uint64]bool
	seed maphash.Seed
}

// run follows the path, and then goes on to the end or to a state that was seen before.
func (e *explorer) run(t *testing.T) *exploredRun {
	t.Helper()
	r := e.w.newRun(t, e.s)
	r.start()
	defer r.stop()
	for depth := 0; r.wrong == nil; depth++ {
		labels := r.choices()
		if len(labels) == 0 {
			r.checkEnd(e.s.mayLease)
			break
		}
		if depth == len(e.path) {
			if e.known(r) {
				break
			}
			e.path = append(e.path, choice{labels: labels})
		}
		c := e.path[depth]
		require.Equal(t, c.labels, labels, "the same steps led elsewhere:\n%s", strings.Join(r.trace, "\n"))
		require.True(t, r.take(c.taken()))
	}
	return r
}

func (e *explorer) known(r *exploredRun) bool {
	h := maphash.String(e.seed, r.state())
	was := e.seen[h]
	e.seen[h] = true
	return was
}

// backtrack goes to the next schedule. It keeps the path of the last one, if that was wrong, for the caller.
func (e *explorer) backtrack() bool {
	if e.w.run.wrong != nil {
		return false
	}
	for len(e.path) > 0 {
		last := &e.path[len(e.path)-1]
		if last.next++; last.next < len(last.labels) {
			return true
		}
		e.path = slices.Delete(e.path, len(e.path)-1, len(e.path))
	}
	return false
}

func TestTheExplorerFindsNoScheduleThatReturnsWhatWasDeleted(t *testing.T) {
	t.Parallel()
	for name, s := range affordable(allExplored(), "miss of one process", "refresh") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := explore(t, s)
			assert.Empty(t, found.wrong, "%v", found)
			t.Logf("%d schedules, %d states", found.runs, found.states)
		})
	}
}

func TestTheExplorerCatchesEveryMutant(t *testing.T) {
	t.Parallel()
	for name, s := range affordable(allMutants(), "a fill that does not compare", "one nonce for all attempts") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := explore(t, s)
			require.NotEmpty(t, found.wrong, "%d schedules, and nothing is wrong with any", found.runs)
			t.Log(found)
			assert.Equal(t, found.wrong, replay(t, s, found.schedule), "the schedule leads there again")
		})
	}
}

// affordable is all scenarios, or the two that are named where all of them would take minutes: make test runs the
// explorer once more, without the race detector.
func affordable(all map[string]scenario, few ...string) map[string]scenario {
	if !raceEnabled && !testing.Short() {
		return all
	}
	chosen := map[string]scenario{}
	for _, name := range few {
		chosen[name] = all[name]
	}
	return chosen
}
