package cacheaside

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The property is the guarantee, for two processes that read and write, with another program, foreign bytes and time in
// between, and one feature at a time. It runs on the explorer's world: an order of events is a choice of who goes next.

const (
	randomGets   = 3 // of each reader
	randomWrites = 2 // of each writer
	randomTTL    = 4 * exploreLease
)

func randomly(p Policy, more func(o *Options)) scenario {
	p.LoadTimeout = exploreTimeout
	if !p.NoTTL {
		p.TTL = randomTTL
	}
	return scenario{
		processes: 2, mayLease: true, keys: []string{"k1", "k2"}, options: more,
		policy: func(to *Policy) { *to = p },
		view: func(c *Client, p Policy) *View[exploredLoad] {
			return For(c, p, LoadMany(loadManyOrFail))
		},
		actors: []actor{
			aRandomReader("R1", 0), aRandomReader("R2", 0), aRandomReader("R3", 1), aRandomBatchReader("R4", 1),
			aRandomWriter("W1", 0), aRandomWriter("W2", 1), aDel("D"),
			{name: "F", process: -1, do: func(ctx context.Context, r *exploredRun, a *actor) {
				r.park(a, "foreign bytes", "")
				r.w.other.Set(ctx, r.w.keys[0], "foreign", exploreTTL)
			}},
			clock("T1", exploreWindow), clock("T2", exploreLease/renewals+time.Second), clock("T3", exploreLease), clock("T4", exploreLease),
			clock("T5", randomTTL), clock("T6", exploreLease),
		},
	}
}

// clock moves everybody's time, once.
func clock(name string, by time.Duration) actor {
	a := timePasses(name, by)
	move := a.do
	a.do = func(ctx context.Context, r *exploredRun, a *actor) {
		move(ctx, r, a)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.nap = by
	}
	return a
}

func randomFeatures() map[string]scenario {
	const soft = exploreLease / 2
	return map[string]scenario{
		"none":             randomly(Policy{NegativeTTL: -1}, nil),
		"negative entries": randomly(Policy{NegativeTTL: randomTTL}, nil),
		"soft TTL":         randomly(Policy{SoftTTL: soft}, nil),
		"no TTL":           randomly(Policy{SoftTTL: soft, NoTTL: true}, nil),
		"XFetch":           randomly(Policy{XFetch: 2}, nil),
		"stale if error":   randomly(Policy{StaleIfError: randomTTL}, nil),
		"jitter":           randomly(Policy{Jitter: 0.5}, nil),
		"merge window":     randomly(Policy{MergeWindow: exploreWindow}, nil),
		"few loads":        randomly(Policy{}, func(o *Options) { o.MaxLoads = 1 }),
	}
}

// again begins another operation of an actor.
func (r *exploredRun) again(a *actor) {
	r.park(a, "next", "")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin(a)
}

// aRandomReader gets both keys in turn. Each third of its loads fails.
func aRandomReader(name string, process int) actor {
	return actor{name: name, process: process, do: func(ctx context.Context, r *exploredRun, a *actor) {
		for i := range randomGets {
			r.again(a)
			key := r.w.keys[i%2]
			v, err := r.views[process].Get(ctx, key, nil)
			r.gotRandom(a, key, v, err)
		}
	}}
}

func aRandomBatchReader(name string, process int) actor {
	return actor{name: name, process: process, do: func(ctx context.Context, r *exploredRun, a *actor) {
		for range randomGets {
			r.again(a)
			values, err := r.views[process].GetMany(ctx, r.w.keys, nil)
			for _, key := range r.w.keys {
				v, ok := values[key]
				switch {
				case ok:
					r.gotRandom(a, key, v, nil)
				case err != nil:
					r.gotRandom(a, key, v, err)
				default:
					r.gotRandom(a, key, v, ErrNotFound)
				}
			}
		}
	}}
}

// loadManyOrFail loads for the actor that began the flight, slowly. A row without a commit does not exist.
func loadManyOrFail(ctx context.Context, keys []string) (map[string]exploredLoad, error) {
	a, _ := ctx.Value(actorKey{}).(*actor)
	r, _ := ctx.Value(runKey{}).(*exploredRun)
	values, fails := map[string]exploredLoad{}, false
	for _, key := range keys {
		l := r.load(a, key)
		if l.Version > 0 {
			values[key] = l
		}
		r.mu.Lock()
		fails = fails || r.loads[a.name]%3 == 0
		r.mu.Unlock()
	}
	r.park(a, "loaded", "")
	if fails {
		return nil, errExploredLoad
	}
	return values, nil
}

func (r *exploredRun) gotRandom(a *actor, key string, l exploredLoad, err error) {
	if errors.Is(err, ErrTooManyLoads) {
		r.note(a, "get %s: %v", key, err)
		return
	}
	r.got(a, key, l, err)
}

func aRandomWriter(name string, process int) actor {
	return actor{name: name, process: process, changes: true, do: func(ctx context.Context, r *exploredRun, a *actor) {
		for i := range randomWrites {
			r.again(a)
			key := r.w.keys[i%2]
			err := r.clients[process].Write(ctx, func(context.Context) ([]string, error) {
				r.commit(a, key)
				return []string{key}, nil
			})
			if err != nil {
				r.fail("%s: write: %v", a.name, err)
				continue
			}
			r.wasDeleted(a, key)
		}
	}}
}

// runRandom lets next choose who goes on, until everybody is done.
func (w *exploreWorld) runRandom(t *testing.T, s *scenario, next func(n int) int) *exploredRun {
	t.Helper()
	r := w.newRun(t, s)
	r.start()
	defer r.stop()
	for r.wrong == nil {
		labels := r.choices()
		if len(labels) == 0 {
			r.checkEnd(s.mayLease)
			break
		}
		require.True(t, r.take(labels[next(len(labels))]))
	}
	return r
}

// wrongWith runs one order of events in a world of its own.
func wrongWith(t *testing.T, s scenario, next func(n int) int) (wrong, trace []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newExploreWorld(t, &s)
		defer w.close()
		r := w.runRandom(t, &s, next)
		wrong, trace = r.wrong, r.trace
	})
	return wrong, trace
}

// fillAnyway fills without the compare, and leaves the rest of the script as it is.
const fillAnyway = `if ARGV[3] ~= 'keep' and ARGV[2] ~= '' then
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1 end `

func TestNoOrderOfEventsReturnsWhatWasDeleted(t *testing.T) {
	t.Parallel()
	orders := rapid.SliceOfN(rapid.IntRange(0, 1<<16), 0, 200)
	for name, s := range randomFeatures() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				order := orders.Draw(rt, "order")
				wrong, trace := wrongWith(t, s, func(n int) (first int) {
					if len(order) > 0 {
						first, order = order[0]%n, order[1:]
					}
					return first
				})
				require.Empty(rt, wrong, "%s", strings.Join(trace, "\n"))
			})
		})
		t.Run(name+", without the compare some do", func(t *testing.T) {
			t.Parallel()
			s := mutate(s, "loaded", fills(fillAnyway))
			var wrong []string
			for seed := uint64(0); wrong == nil && seed < 300; seed++ {
				wrong, _ = wrongWith(t, s, rand.New(rand.NewPCG(seed, 0)).IntN)
			}
			assert.NotEmpty(t, wrong)
		})
	}
}
