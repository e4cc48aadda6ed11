package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

const batchSize = 100

// errLoaded fails a cell that should only hit.
var errLoaded = errors.New("an entry that should be there was loaded")

// cell is one line of work, which every contestant that offers it does in turn.
type cell struct {
	work       string // hit, miss, batch hit or batch miss
	payload    int    // bytes
	goroutines int
	keys       int // how many there are to choose from; 0: new ones for every read
}

// name is what -run matches.
func (c cell) name() string {
	return fmt.Sprintf("%s/%s/%s/%d", c.work, bytesText(c.payload), c.keysText(), c.goroutines)
}

func (c cell) keysText() string {
	switch c.keys {
	case 0:
		return "new"
	case 1:
		return "1"
	default:
		return "1,024"
	}
}

func bytesText(n int) string {
	if n >= 1024 {
		return strconv.Itoa(n/1024) + " KiB"
	}
	return strconv.Itoa(n) + " B"
}

func (c cell) batch() bool { return strings.HasPrefix(c.work, "batch") }

// offered tells whether a contestant can do the work.
func (c cell) offered(by contestant) bool {
	if c.batch() {
		return by.many != nil
	}
	return true
}

func cells() []cell {
	var all []cell
	for _, kind := range []struct {
		work string
		keys []int
	}{{"hit", []int{1, 1024}}, {"miss", []int{0}}, {"batch hit", []int{1024}}, {"batch miss", []int{0}}} {
		for _, keys := range kind.keys {
			for _, payload := range []int{64, 256, 16 << 10} {
				for _, goroutines := range []int{1, 16, 64} {
					all = append(all, cell{kind.work, payload, goroutines, keys})
				}
			}
		}
	}
	return all
}

// task is a cell done by one contestant.
type task struct {
	cell
	by      contestant
	value   string
	present []string     // the keys that are there, for hits
	made    atomic.Int64 // how many new keys there were, for misses
	prefix  string
}

func newTask(c cell, by contestant) *task {
	return &task{
		cell: c, by: by, value: strings.Repeat("v", c.payload),
		prefix: fmt.Sprintf("bench:%s:%s:", strings.ReplaceAll(by.name, " ", "-"), strings.ReplaceAll(c.name(), " ", "-")),
	}
}

// fill stores the entries that hits find, through the contestant itself.
func (t *task) fill(ctx context.Context) error {
	for i := range t.keys {
		key := t.prefix + strconv.Itoa(i)
		t.present = append(t.present, key)
		if _, err := t.by.get(ctx, key, t.load); err != nil {
			return fmt.Errorf("fill %s: %w", key, err)
		}
	}
	return nil
}

func (t *task) load() (string, error) { return t.value, nil }

func (t *task) noLoad() (string, error) { return "", errLoaded }

// operation returns one goroutine's share of the work, one call an operation.
func (t *task) operation() func(ctx context.Context) error {
	load := t.load
	if t.keys > 0 {
		load = t.noLoad
	}
	keys := t.chooser()
	if !t.batch() {
		return func(ctx context.Context) error {
			value, err := t.by.get(ctx, keys(1)[0], load)
			if err == nil && len(value) != len(t.value) {
				err = fmt.Errorf("read %d bytes instead of %d", len(value), len(t.value))
			}
			return err
		}
	}
	return func(ctx context.Context) error {
		n, err := t.by.many(ctx, keys(batchSize), load)
		if err == nil && n != batchSize {
			err = fmt.Errorf("read %d values instead of %d", n, batchSize)
		}
		return err
	}
}

// chooser returns a function that chooses the next n keys, at random among those present or new ones.
func (t *task) chooser() func(n int) []string {
	if t.keys == 0 {
		return func(n int) []string {
			keys := make([]string, n)
			last := t.made.Add(int64(n))
			for i := range keys {
				keys[i] = t.key(last - int64(i))
			}
			return keys
		}
	}
	random := rand.New(rand.NewPCG(rand.Uint64(), 1)) //nolint:gosec // keys to read, not secrets
	return func(n int) []string {
		first := random.IntN(len(t.present) - n + 1)
		return t.present[first : first+n]
	}
}

func (t *task) key(n int64) string { return t.prefix + strconv.FormatInt(n, 10) }

// forget deletes what misses stored, outside of what is measured.
func (t *task) forget(ctx context.Context, rdb *redis.Client) error {
	keys := t.present
	for n := range t.made.Swap(0) {
		keys = append(keys, t.key(n+1))
	}
	for len(keys) > 0 {
		n := min(len(keys), 1000)
		if err := rdb.Unlink(ctx, keys[:n]...).Err(); err != nil {
			return fmt.Errorf("delete the keys of %s: %w", t.name(), err)
		}
		keys = keys[n:]
	}
	return nil
}
