package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// staleEntry is a cached value that is not what the database holds.
type staleEntry struct {
	id      int
	version int64
	since   time.Time // when the database moved on
	settled bool      // nobody but the relay is about to delete it
}

// auditor compares the cache with the database.
type auditor struct {
	db     *database
	redis  *redis.Client
	ledger *ledger
	counts *counts
	seen   map[int]staleEntry // what the last look found, by id
}

// stale returns which of the rows' entries are stale. It looks at the database
// first: a cached value that is older than that is stale beyond doubt, one
// that is newer is not. At rest, any difference is one.
func (a *auditor) stale(ctx context.Context, ids []int, atRest bool) ([]staleEntry, error) {
	rows, err := a.db.load(ctx, ids...)
	if err != nil {
		return nil, err
	}
	settled := make([]bool, len(ids)) // before the cache: what is still there then, its writers left there
	for i, id := range ids {
		settled[i] = a.ledger.settled(id)
	}
	cached, err := a.cached(ctx, ids)
	if err != nil {
		return nil, err
	}
	var found []staleEntry
	for i, id := range ids {
		u, ok := cached[id]
		if !ok || u == rows[id] || (!atRest && u.Version > rows[id].Version) {
			continue
		}
		found = append(found, staleEntry{id: id, version: u.Version, since: a.ledger.outdated(id, u.Version), settled: settled[i]})
	}
	return found, nil
}

// cached returns the values that the cache holds for the rows.
func (a *auditor) cached(ctx context.Context, ids []int) (map[int]user, error) {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = userKey(id)
	}
	entries, err := a.redis.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("look at the cache: %w", err)
	}
	users := map[int]user{}
	for i, entry := range entries {
		raw, ok := entry.(string)
		if !ok {
			continue // absent
		}
		u, ok, err := decodeEntry(raw)
		if err != nil {
			return nil, fmt.Errorf("look at the cache: %w", err)
		}
		if ok {
			users[ids[i]] = u
		}
	}
	return users, nil
}

// look compares every cached value with the database and counts. It is not for
// concurrent use.
func (a *auditor) look(ctx context.Context, atRest bool) error {
	found, err := a.stale(ctx, allIDs(), atRest)
	if err != nil {
		return err
	}
	seen := map[int]staleEntry{}
	now, oldest := time.Now(), time.Duration(0)
	for _, e := range found {
		if before, ok := a.seen[e.id]; ok && before.version == e.version {
			e = before // the ledger may have forgotten since
		}
		seen[e.id] = e
		oldest = max(oldest, now.Sub(e.since))
	}
	a.seen = seen
	a.counts.change(func(n *numbers) {
		n.staleNow, n.oldest, n.maxAge = len(found), oldest, max(n.maxAge, oldest)
	})
	return nil
}

func allIDs() []int {
	ids := make([]int, userCount)
	for i := range ids {
		ids[i] = i + 1
	}
	return ids
}
