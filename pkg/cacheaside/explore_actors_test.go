package cacheaside

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// aReader gets every key of the scenario, one after the other.
func aReader(name string, process int) actor {
	return actor{name: name, process: process, do: func(ctx context.Context, r *exploredRun, a *actor) {
		for _, key := range r.w.keys {
			v, err := r.views[process].Get(ctx, key, r.loader(a, key))
			r.got(a, key, v, err)
		}
	}}
}

// aFailingReader is a reader whose first load fails.
func aFailingReader(name string, process int) actor {
	return actor{name: name, process: process, do: func(ctx context.Context, r *exploredRun, a *actor) {
		v, err := r.views[process].Get(ctx, exploreKey, func(context.Context) (exploredLoad, error) { return exploredLoad{}, errExploredLoad })
		r.got(a, exploreKey, v, err)
	}}
}

var errExploredLoad = errors.New("explored load failed")

// aWriter, W, commits, and deletes, the first key.
func aWriter(process int) actor {
	return actor{name: "W", process: process, changes: true, do: func(ctx context.Context, r *exploredRun, a *actor) {
		err := r.clients[process].Write(ctx, func(context.Context) ([]string, error) {
			r.park(a, "commit", "")
			r.commit(a, r.w.keys[0])
			return r.w.keys[:1], nil
		})
		if err != nil {
			r.note(a, "write: %v", err)
			return
		}
		r.wasDeleted(a, r.w.keys[0])
	}}
}

// aStranger is another program: it commits and deletes, and knows nothing of this package.
func aStranger(name string) actor {
	return actor{name: name, process: -1, changes: true, do: func(ctx context.Context, r *exploredRun, a *actor) {
		r.park(a, "commit", "")
		r.commit(a, r.w.keys[0])
		r.park(a, "del", "")
		if err := r.w.other.Del(ctx, r.w.keys[0]).Err(); err == nil {
			r.wasDeleted(a, r.w.keys[0])
		}
	}}
}

// aDel is another program that deletes the first key.
func aDel(name string) actor {
	return actor{name: name, process: -1, changes: true, do: func(ctx context.Context, r *exploredRun, a *actor) {
		r.park(a, "del", "")
		if err := r.w.other.Del(ctx, r.w.keys[0]).Err(); err == nil {
			r.wasDeleted(a, r.w.keys[0])
		}
	}}
}

// aDeleter deletes the first key through a Client, without a write.
func aDeleter(name string, process int) actor {
	return actor{name: name, process: process, changes: true, do: func(ctx context.Context, r *exploredRun, a *actor) {
		if err := r.clients[process].Delete(ctx, r.w.keys[0]); err == nil {
			r.wasDeleted(a, r.w.keys[0])
		}
	}}
}

// anEvent is one step that is nobody's.
func anEvent(name string, do func(ctx context.Context, r *exploredRun)) actor {
	return actor{name: name, process: -1, do: func(ctx context.Context, r *exploredRun, a *actor) {
		r.park(a, "happens", "")
		do(ctx, r)
	}}
}

// leasesEnd lets so much time pass that every lease ends.
func leasesEnd() actor { return timePasses("the lease's time", exploreLease) }

func timePasses(name string, d time.Duration) actor {
	return anEvent(name, func(_ context.Context, r *exploredRun) {
		r.w.redis.FastForward(d)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.redisNow += d
	})
}

// foreignBytes stores bytes that are not an entry.
func foreignBytes(name string) actor {
	return anEvent(name, func(ctx context.Context, r *exploredRun) { r.w.other.Set(ctx, exploreKey, "foreign", exploreTTL) })
}

// lazily starts an actor as a step of its own, for actors of one process that meet before Redis.
func lazily(a actor) actor {
	a.lazy = true
	return a
}

// loader reads the row, and gives what it read its name.
func (r *exploredRun) loader(a *actor, key string) Loader[exploredLoad] {
	return func(context.Context) (exploredLoad, error) {
		l := r.load(a, key)
		return l, nil
	}
}

func (r *exploredRun) load(a *actor, key string) exploredLoad {
	r.mu.Lock()
	r.loads[a.name]++
	l := exploredLoad{Key: key, Version: r.rows[key].version, Began: r.rows[key].deleted, By: fmt.Sprint(a.name, r.loads[a.name])}
	r.mu.Unlock()
	r.note(a, "load %s: version %d, after %d deletes", key, l.Version, l.Began)
	return l
}

// got checks what a read returned.
func (r *exploredRun) got(a *actor, key string, l exploredLoad, err error) {
	switch {
	case errors.Is(err, errExploredLoad):
		r.note(a, "get %s: the load failed", key)
	case errors.Is(err, ErrNotFound) && a.floor[key].known == 0:
		r.note(a, "get %s: not found", key)
	case err != nil:
		r.fail("%s: get %s: %v", a.name, key, err)
	case l.Key != key:
		r.fail("%s: get %s returned the value of %q", a.name, key, l.Key)
	case l.Began < a.floor[key].deleted:
		r.fail("%s began after %d deletes of %s, and got a value that was loaded after %d", a.name, a.floor[key].deleted, key, l.Began)
	default:
		r.note(a, "get %s: %s's version %d", key, l.By, l.Version)
	}
}

func (r *exploredRun) commit(a *actor, key string) {
	r.mu.Lock()
	r.rows[key].version++
	r.rows[key].owed = true
	r.mu.Unlock()
	r.note(a, "committed")
}

// wasDeleted counts a delete that returned success, which is one for every commit before it.
func (r *exploredRun) wasDeleted(a *actor, key string) {
	r.mu.Lock()
	r.rows[key].deleted++
	r.rows[key].known = r.rows[key].version
	r.rows[key].owed = false
	r.mu.Unlock()
	r.note(a, "deleted")
}

// observe is told by every Client.
func (r *exploredRun) observe(e Event) {
	if e.Kind == EventOwedDone {
		r.wasDeleted(&actor{name: "background", process: -1}, e.Key)
	}
}
