package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	fastestLoad = 25 * time.Millisecond
	slowestLoad = 75 * time.Millisecond
)

// database has one row, whose value is its version.
type database struct {
	version atomic.Int64
	loads   atomic.Int64
}

// load reads the row as of its start, and takes its time to return it.
func (db *database) load(ctx context.Context) (string, error) {
	db.loads.Add(1)
	value := fmt.Sprintf("%d %d", db.version.Load(), time.Now().UnixNano())
	took := time.NewTimer(fastestLoad + rand.N(slowestLoad-fastestLoad)) //nolint:gosec // not a secret
	defer took.Stop()
	select {
	case <-took.C:
		return value, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// parse returns the version of a loaded value, and when its load began.
func parse(value string) (version int64, began time.Time, err error) {
	var nanos int64
	if _, err = fmt.Sscanf(value, "%d %d", &version, &nanos); err != nil {
		return 0, time.Time{}, fmt.Errorf("read the value %q: %w", value, err)
	}
	return version, time.Unix(0, nanos), nil
}

// deletes remembers when each version's predecessors had been deleted from the cache.
type deletes struct {
	mu   sync.Mutex
	done []time.Time // of version 1, 2, …
}

// note that a delete which followed the write of the next version has returned.
func (d *deletes) note(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = append(d.done, at)
}

// staleFor returns how long before at the delete was done after which version must not be read any more; 0: it may be.
func (d *deletes) staleFor(version int64, at time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if version >= int64(len(d.done)) || !d.done[version].Before(at) {
		return 0
	}
	return at.Sub(d.done[version])
}
