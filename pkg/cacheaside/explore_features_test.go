package cacheaside

import (
	"context"
	"encoding/json"
	"maps"
	"time"
)

func features() map[string]scenario {
	return map[string]scenario{
		"negative entry": negative(),
		"refresh":        refreshed(),
		"batch":          batches(),
		"merged misses":  merges(),
		"renewed lease":  renewed(),
	}
}

func allExplored() map[string]scenario {
	all := explored()
	maps.Copy(all, features())
	for name, s := range all {
		s.policy = longLoads(s.policy)
		all[name] = s
	}
	return all
}

func allMutants() map[string]scenario {
	all := mutants()
	maps.Copy(all, featureMutants())
	for name, s := range all {
		s.policy = longLoads(s.policy)
		all[name] = s
	}
	return all
}

// longLoads lets no load time out.
func longLoads(more func(p *Policy)) func(p *Policy) {
	return func(p *Policy) {
		p.LoadTimeout = exploreTimeout
		if more != nil {
			more(p)
		}
	}
}

// negative is a row that the writer inserts.
func negative() scenario {
	s := missed()
	s.actors = []actor{maybeNothing("R1", 0), maybeNothing("R2", 1), aWriter(2), aDel("D")}
	s.policy = func(p *Policy) { p.NegativeTTL = exploreTTL }
	return s
}

// maybeNothing is a reader of a row that does not exist before its first commit.
func maybeNothing(name string, process int) actor {
	return actor{name: name, process: process, do: func(ctx context.Context, r *exploredRun, a *actor) {
		v, err := r.views[process].Get(ctx, exploreKey, func(context.Context) (exploredLoad, error) {
			l := r.load(a, exploreKey)
			if l.Version == 0 {
				return exploredLoad{}, ErrNotFound
			}
			return l, nil
		})
		r.got(a, exploreKey, v, err)
	}}
}

// refreshed begins with a value that is due.
func refreshed() scenario {
	s := missed()
	s.policy = func(p *Policy) { p.SoftTTL = exploreTTL / 2 }
	s.before = func(r *exploredRun) {
		h := header{format: formatJSON, fill: newFillID(), loadedAt: time.Now(), softExpiry: time.Now().Add(-time.Second)}
		payload, _ := json.Marshal(exploredLoad{Key: exploreKey, By: "before"})
		r.w.other.Set(r.ctx, exploreKey, appendValue(nil, h, payload), exploreTTL/2)
		r.checkEntries()
	}
	return s
}

// batches are two keys, of which the first is written.
func batches() scenario {
	return scenario{
		processes: 3, keys: []string{"k1", "k2"},
		actors: []actor{aBatchReader("R1", 0), aReader("R2", 1), aWriter(2)},
	}
}

func aBatchReader(name string, process int) actor {
	return actor{name: name, process: process, do: func(ctx context.Context, r *exploredRun, a *actor) {
		values, err := r.views[process].GetMany(ctx, r.w.keys, loadMany)
		for _, key := range r.w.keys {
			r.got(a, key, values[key], err)
		}
	}}
}

// loadMany loads for the actor that began the flight.
func loadMany(ctx context.Context, keys []string) (map[string]exploredLoad, error) {
	a, _ := ctx.Value(actorKey{}).(*actor)
	r, _ := ctx.Value(runKey{}).(*exploredRun)
	values := map[string]exploredLoad{}
	for _, key := range keys {
		values[key] = r.load(a, key)
	}
	return values, nil
}

const exploreWindow = time.Millisecond

// merges are two readers of one process whose misses are loaded together.
func merges() scenario {
	return scenario{
		processes: 2, keys: []string{"k1", "k2"},
		policy: func(p *Policy) { p.MergeWindow = exploreWindow },
		view: func(c *Client, p Policy) *View[exploredLoad] {
			return For(c, p, LoadMany(loadMany))
		},
		actors: []actor{
			lazily(aMergedReader("R1", "k1")), lazily(aMergedReader("R2", "k2")), aWriter(1),
			anEvent("the window", func(_ context.Context, r *exploredRun) { r.nap = exploreWindow }),
		},
	}
}

func aMergedReader(name, key string) actor {
	return actor{name: name, do: func(ctx context.Context, r *exploredRun, a *actor) {
		v, err := r.views[0].Get(ctx, key, nil)
		r.got(a, key, v, err)
	}}
}

// renewed is a load that takes longer than its lease, which is renewed at any time, or too late.
func renewed() scenario {
	slow := actor{name: "R1", do: func(ctx context.Context, r *exploredRun, a *actor) {
		v, err := r.views[0].Get(ctx, exploreKey, func(context.Context) (exploredLoad, error) {
			l := r.load(a, exploreKey)
			r.park(a, "loaded", "")
			return l, nil
		})
		r.got(a, exploreKey, v, err)
	}}
	return scenario{processes: 3, actors: []actor{
		slow, aReader("R2", 1), aWriter(2), leasesEnd(),
		anEvent("a third of the lease", func(_ context.Context, r *exploredRun) { r.nap = exploreLease/renewals + time.Second }),
	}}
}

func featureMutants() map[string]scenario {
	joiner := explored()["reply of the fill"]
	return map[string]scenario{
		"absence that is filled without a compare": mutate(negative(), holdsAbsence, fills(noCompare)),
		"a claim that does not compare":            mutate(refreshed(), takesLease, fills(claimsAlways)),
		"a claim that starts the TTL again":        mutate(refreshed(), "lives longer", fills(claimsExtend)),
		"a refresh that does not compare":          mutate(refreshed(), goesStale, fills(noCompareUnlessKeep)),
		"a batch that does not compare":            mutate(batches(), goesStale, fills(noCompare)),
		"merged misses that do not compare":        mutate(merges(), goesStale, fills(noCompare)),
		"a renewal that does not compare":          mutate(renewed(), goesStale, fills(replaceAlways)),
		"a joiner that takes what it gets":         mutate(joiner, "got a value that was loaded", joinsAll),
	}
}

const (
	claimsAlways = `if ARGV[3] == 'keep' then redis.call('SETRANGE', KEYS[1], 0, ARGV[2]) return 1 end `
	claimsExtend = `if ARGV[3] == 'keep' and redis.call('GETRANGE', KEYS[1], 0, 38) == ARGV[1] then
redis.call('SETRANGE', KEYS[1], 0, ARGV[2]) redis.call('PEXPIRE', KEYS[1], 3600000000) return 1 end `
	noCompareUnlessKeep = `if ARGV[3] ~= 'keep' and ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1 end `
)

// joinsAll makes every waiter one that came before everything.
func joinsAll(m *mutant) {
	m.after = func(c *Client) {
		c.flights.mu.Lock()
		defer c.flights.mu.Unlock()
		for _, f := range c.flights.byKey {
			for _, w := range f.waiters {
				w.n = 0
			}
		}
	}
}
