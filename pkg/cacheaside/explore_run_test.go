package cacheaside

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// Times of the explored Clients, on the fake clock. A wait's pause is over long before MaxWait is, and nothing that is
// not being explored ends during a run.
const (
	explorePause   = 2 * longestPause // longer than any pause of a wait
	exploreMaxWait = time.Minute
	exploreLease   = time.Hour
	exploreTTL     = 1000 * time.Hour
	exploreTimeout = 10_000 * time.Hour
)

// an actor does one thing, in steps. It is parked before each of them.
type actor struct {
	name    string
	process int // whose Client it uses
	do      func(ctx context.Context, r *exploredRun, a *actor)

	changes bool // what loaders read, or how often it was deleted
	lazy    bool // its start is a step of its own, because it touches what its process remembers
	begun   bool
	floor   map[string]exploredRow // the rows when it began
	done    bool
}

// A thread is one goroutine of an actor that waits for its turn: an actor may do several things at a time.
type thread struct {
	label string
	actor *actor
	step  step
	turn  chan struct{}
	seen  string // the entries when it was parked
}

// exploredLoad is one call of a loader. What readers return names the load it came from.
type exploredLoad struct {
	Key     string `json:"key"`
	Version int    `json:"version"` // of the row
	Began   int    `json:"began"`   // after this many deletes of the key
	By      string `json:"by"`
}

// exploredRow is one row of the database, and what is known of its key.
type exploredRow struct {
	version int
	deleted int  // deletes that returned success
	known   int  // the version at the last of them
	owed    bool // a commit's delete has not
}

// exploredRun is one schedule. Of the goroutines inside of it exactly one is not blocked, except while there is nobody to
// check it; mu makes that visible to the race detector.
type exploredRun struct {
	w      *exploreWorld
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	free     bool // nobody is parked any more: the run is being thrown away
	actors   []*actor
	parked   []*thread
	clients  []*Client
	views    []*View[exploredLoad]
	rows     map[string]*exploredRow
	loads    map[string]int      // by who loaded
	names    map[string]string   // of nonces and fill ids
	given    map[string]int      // names, by who got them
	history  map[string][]string // what each process, or other program, did and saw
	ends     map[string]time.Duration
	redisNow time.Duration // how far the Redis was moved forward
	nap      time.Duration // that the current step takes
	lost     []any         // the command that was lost
	trace    []string
	wrong    []string
}

type (
	actorKey struct{}
	runKey   struct{}
)

// before is the hook of every Client, and of the explorer's own steps.
func (r *exploredRun) before(ctx context.Context, s step, key string) {
	a, ok := ctx.Value(actorKey{}).(*actor)
	if !ok {
		a = &actor{name: "background", process: -1}
	}
	r.park(a, s, key)
	if r.w.mutant.after != nil && a.process >= 0 {
		r.w.mutant.after(r.clients[a.process])
	}
}

func (r *exploredRun) park(a *actor, s step, key string) {
	r.mu.Lock()
	if r.free {
		r.mu.Unlock()
		return
	}
	t := &thread{label: a.name + " " + string(s), actor: a, step: s, turn: make(chan struct{})}
	if len(r.w.keys) > 1 && key != "" {
		t.label += " " + key
	}
	for base, n := t.label, 2; slices.ContainsFunc(r.parked, func(o *thread) bool { return o.label == t.label }); n++ {
		t.label = fmt.Sprintf("%s (%d)", base, n)
	}
	if s == stepWait {
		t.seen = r.stored()
	}
	r.parked = append(r.parked, t)
	r.mu.Unlock()
	<-t.turn
}

// start lets the actors run to their first step, which does nothing that another could notice: it is their second
// choice that counts as the start.
func (r *exploredRun) start() {
	for _, a := range r.actors {
		go func() {
			if a.lazy {
				r.park(a, "start", "")
			}
			a.do(context.WithValue(context.WithValue(r.ctx, runKey{}, r), actorKey{}, a), r, a)
			r.mu.Lock()
			defer r.mu.Unlock()
			a.done = true
		}()
		synctest.Wait()
	}
}

const givesUp = ": MaxWait is over"

// choices returns the steps that are possible now, in an order that does not depend on the goroutines' scheduling.
func (r *exploredRun) choices() []string {
	for range 100 {
		done := r.finished() // and still what they began in the background may go on after a timer
		if c := r.possible(); len(c) > 0 {
			return c
		}
		time.Sleep(explorePause)
		synctest.Wait()
		if c := r.possible(); len(c) > 0 || done {
			return c
		}
	}
	r.fail("the actors are stuck")
	return nil
}

func (r *exploredRun) possible() (labels []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.parked, r.alone); i >= 0 {
		return []string{r.parked[i].label}
	}
	for _, t := range r.parked {
		if t.step != stepWait {
			labels = append(labels, t.label)
			continue
		}
		if t.seen != r.stored() { // otherwise it would see the same again, and wait again
			labels = append(labels, t.label)
		}
		labels = append(labels, t.label+givesUp)
	}
	slices.Sort(labels)
	return labels
}

// alone reports whether t's step makes no difference to the others' next steps, nor they to it, so that no other order
// needs to be tried: a load in a process of its own, after the last commit and delete. mu is held.
func (r *exploredRun) alone(t *thread) bool {
	return t.step == stepLoad && !r.anyOwed() && !slices.ContainsFunc(r.actors, func(a *actor) bool {
		return a != t.actor && (!a.done && a.changes || r.active(a) && a.process == t.actor.process)
	})
}

func (r *exploredRun) anyOwed() bool {
	for _, row := range r.rows {
		if row.owed {
			return true
		}
	}
	return false
}

// active reports whether a, or what it began, is not done. mu is held.
func (r *exploredRun) active(a *actor) bool {
	return !a.done || slices.ContainsFunc(r.parked, func(t *thread) bool { return t.actor == a })
}

func (r *exploredRun) finished() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !slices.ContainsFunc(r.actors, func(a *actor) bool { return !a.done })
}

// take lets the thread of label go on until it is parked again, is done, or waits for another. It reports whether there
// was such a thread.
func (r *exploredRun) take(label string) bool {
	name, over := strings.CutSuffix(label, givesUp)
	r.mu.Lock()
	i := slices.IndexFunc(r.parked, func(t *thread) bool { return t.label == name })
	if i < 0 {
		r.mu.Unlock()
		return false
	}
	t, before := r.parked[i], r.raw()
	r.parked = slices.Delete(r.parked, i, i+1)
	r.trace = append(r.trace, label)
	r.remember(t.actor, label)
	if !t.actor.begun {
		r.begin(t.actor)
	}
	r.mu.Unlock()
	if over {
		time.Sleep(exploreMaxWait)
	}
	close(t.turn)
	synctest.Wait()
	if t.step == stepWait && !over {
		time.Sleep(explorePause)
		synctest.Wait()
	}
	if r.nap > 0 {
		time.Sleep(r.nap)
		r.nap = 0
		synctest.Wait()
	}
	r.checkEntries()
	r.checkStep(t, before)
	return true
}

// stop throws away what is left of the run.
func (r *exploredRun) stop() {
	r.mu.Lock()
	r.free = true
	for _, t := range r.parked {
		close(t.turn)
	}
	r.parked = nil
	r.mu.Unlock()
	r.cancel()
	for synctest.Wait(); !r.finished(); synctest.Wait() {
		time.Sleep(exploreMaxWait)
	}
	for _, c := range r.clients {
		c.Close()
	}
	synctest.Wait()
}
