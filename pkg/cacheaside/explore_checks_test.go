package cacheaside

import (
	"encoding/json"
	"math"
	"strings"
)

// checkEntries looks at what a Get that begins now would find.
func (r *exploredRun) checkEntries() {
	for key, raw := range r.raw() {
		if isAbsent(raw) && r.rows[key].known > 0 {
			r.fail("%s %s before version %d was deleted for", key, holdsAbsence, r.rows[key].known)
		}
		l, ok := valueIn(raw)
		if !ok {
			continue
		}
		if l.Began < r.rows[key].deleted {
			r.fail("%s holds a value that was loaded after %d of %d deletes", key, l.Began, r.rows[key].deleted)
		}
		end := r.redisNow + r.w.redis.TTL(key)
		if r.w.redis.TTL(key) == 0 {
			end = math.MaxInt64
		}
		if first, known := r.ends[l.By]; !known {
			r.ends[l.By] = end
		} else if end > first {
			r.fail("%s lives longer than the TTL it was filled with", key)
		}
	}
}

// checkStep looks at what a step did to the entries. A reader has no business with another's lease, nor with a value
// that can be read, except to put a newer one in its place: whoever waits for the lease would wait for nothing, and the
// value would be loaded again.
func (r *exploredRun) checkStep(t *thread, before map[string]string) {
	if t.actor.changes || t.actor.process < 0 {
		return
	}
	after := r.raw()
	for key, was := range before {
		if was == after[key] {
			continue
		}
		k, _, _ := parse([]byte(was))
		_, readable := valueIn(was)
		owner, _, _ := strings.Cut(r.names[identity([]byte(was))], ".")
		switch _, still := valueIn(after[key]); {
		case readable && !still:
			r.fail("%s threw a value away that could be read", t.label)
		case k == kindLease && owner != t.actor.name:
			r.fail("%s took %s's lease away", t.label, owner)
		}
	}
}

// valueIn returns what a loader returned from an entry that holds it.
func valueIn(raw string) (l exploredLoad, ok bool) {
	k, _, payload := parse([]byte(raw))
	ok = k == kindValue && json.Unmarshal(payload, &l) == nil && l.By != ""
	return l, ok
}

// checkEnd looks at what everybody left behind.
func (r *exploredRun) checkEnd(mayLease bool) {
	for key, raw := range r.raw() {
		k, _, _ := parse([]byte(raw))
		l, ok := valueIn(raw)
		switch {
		case k == kindLease && !mayLease:
			r.fail("%s holds a lease that nobody holds", key)
		case k == kindLease && r.w.redis.TTL(key) == 0:
			r.fail("%s holds a lease without an end", key)
		case ok && !r.rows[key].owed && l.Version != r.rows[key].version:
			r.fail("%s holds version %d, the database %d", key, l.Version, r.rows[key].version)
		}
	}
}

const holdsAbsence = "holds that there is nothing, loaded"

// isAbsent reports whether an entry says that there is no row.
func isAbsent(raw string) bool { return len(raw) == headerLen && raw[0] == valueTag && raw[10]&1 != 0 }
