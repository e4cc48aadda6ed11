package redissink

import (
	"sync"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// tally counts the deletes of one Apply by group. A nil tally counts nothing.
type tally struct {
	group func(key string) string

	mu     sync.Mutex
	counts map[string]*count

	left []string // keys that were not deleted: parked, or of a master that is left behind
}

type count struct{ keys, found int }

// of returns the group of a key.
func (t *tally) of(key string) string {
	if t == nil {
		return ""
	}
	return t.group(key)
}

func (t *tally) add(group string, keys, found int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts[group]
	if c == nil {
		c = &count{}
		t.counts[group] = c
	}
	c.keys += keys
	c.found += found
}

// leave notes keys that were not deleted.
func (t *tally) leave(keys []string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = append(t.left, keys...)
}

func (t *tally) report(observer invalidation.Observer, took time.Duration) {
	for group, c := range t.counts {
		observer.Observe(invalidation.Event{
			Kind: invalidation.Deleted, Part: invalidation.PartCache, Text: group,
			Count: c.keys, Found: c.found, Took: took,
		})
	}
}
