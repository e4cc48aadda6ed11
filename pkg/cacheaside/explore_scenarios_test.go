package cacheaside

import (
	"context"
	"time"
)

// explored are the paths that write an entry, each with everybody who may come in between.
func explored() map[string]scenario {
	return map[string]scenario{
		"miss": missed(),
		"miss and lease end": {
			processes: 3, actors: []actor{aReader("R1", 0), aReader("R2", 1), aWriter(2), leasesEnd()},
		},
		"miss of one process": {
			processes: 2, actors: []actor{lazily(aReader("R1", 0)), lazily(aReader("R2", 0)), aWriter(1)},
		},
		"miss and delete of one process": {
			processes: 1, actors: []actor{lazily(aReader("R1", 0)), lazily(aReader("R2", 0)), aDeleter("D", 0)},
		},
		"reply of the fill": {
			processes: 2, replies: true, actors: []actor{lazily(aReader("R1", 0)), lazily(aReader("R2", 0)), aWriter(1)},
		},
		"delete without a reply":    owedDelete(),
		"failed load":               failedLoad(),
		"undecodable":               undecodable(),
		"foreign bytes meanwhile":   {processes: 3, actors: []actor{aReader("R1", 0), aReader("R2", 1), aWriter(2), foreignBytes("F")}},
		"WRONGTYPE":                 wrongType(),
		"the lease's reply is lost": lostLease(),
	}
}

func missed() scenario {
	return scenario{processes: 3, actors: []actor{aReader("R1", 0), aReader("R2", 1), aWriter(2), aDel("D")}}
}

func failedLoad() scenario {
	return scenario{processes: 3, actors: []actor{aFailingReader("R1", 0), aReader("R2", 1), aWriter(2)}}
}

// undecodable begins with an entry that another version of T left.
func undecodable() scenario {
	s := missed()
	s.before = func(r *exploredRun) {
		h := header{format: formatJSON, fill: newFillID(), loadedAt: time.Now()}
		r.w.other.Set(r.ctx, exploreKey, appendValue(nil, h, []byte(`"other"`)), exploreTTL)
	}
	return s
}

func wrongType() scenario {
	s := missed()
	s.before = func(r *exploredRun) { r.w.other.HSet(r.ctx, exploreKey, "a", "1") }
	return s
}

// lostLease loses the reply of R1's first lease, whose command arrives at any time later, or never.
func lostLease() scenario {
	var late []any
	s := scenario{
		processes: 3, mayLease: true,
		before: func(*exploredRun) { late = nil },
		lose: func(_ *exploredRun, a *actor, args []any) bool {
			lost := a.name == "R1" && late == nil && args[0] == "set"
			if lost {
				late = append([]any{}, args...)
			}
			return lost
		},
		actors: []actor{aReader("R1", 0), aWriter(2), aReader("R2", 1)},
	}
	s.actors = append(s.actors, anEvent("the late lease", func(ctx context.Context, r *exploredRun) {
		if late != nil {
			r.w.other.Do(ctx, late...)
		}
	}))
	return s
}

// owedDelete loses the first delete, which is tried again in the background.
func owedDelete() scenario {
	lost := false
	return scenario{
		processes: 2, before: func(*exploredRun) { lost = false },
		lose: func(_ *exploredRun, _ *actor, args []any) bool {
			first := !lost && args[0] == "unlink"
			lost = lost || first
			return first
		},
		actors: []actor{
			aReader("R1", 0), aReader("R2", 0), aWriter(1),
			anEvent("the retry's pause", func(_ context.Context, r *exploredRun) { r.nap = longestRetry }),
		},
	}
}
