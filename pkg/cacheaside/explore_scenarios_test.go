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
	return scenario{
		processes: 3, mayLease: true,
		lose: func(a *actor, args []any) bool { return a.name == "R1" && args[0] == "set" },
		actors: []actor{
			aReader("R1", 0), aWriter(2), aReader("R2", 1),
			anEvent("the late lease", func(ctx context.Context, r *exploredRun) {
				if late := r.lostCommand(); late != nil {
					r.w.other.Do(ctx, late...)
				}
			}),
		},
	}
}

// owedDelete loses the first delete, which is tried again in the background.
func owedDelete() scenario {
	return scenario{
		processes: 2,
		lose:      func(_ *actor, args []any) bool { return args[0] == "unlink" },
		actors: []actor{
			aReader("R1", 0), aReader("R2", 0), aWriter(1),
			anEvent("the retry's pause", func(_ context.Context, r *exploredRun) { r.nap = longestRetry }),
		},
	}
}
