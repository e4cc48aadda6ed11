package cacheaside

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// reader is a process whose Get stops before every command and every load, and goes on when it is told to.
type reader struct {
	process
	view    *View[int]
	parked  chan struct{}
	proceed chan struct{}
	done    chan int // the value that Get returned
	busy    bool
	floor   int // the newest version that was deleted for when the Get started
}

// schedule runs readers, writes and deletes in an order that is given to it.
type schedule struct {
	w       world
	readers []*reader
	version int // committed
	deleted int // the newest version that a Delete was done for
	stale   int // Gets that returned less than their floor
}

func newSchedule(t *testing.T, fill string) *schedule {
	t.Helper()
	s := &schedule{w: setup(t)}
	for range 3 {
		r := &reader{
			process: newProcess(t, s.w.redis.Addr(), Options{MaxWait: 5 * time.Millisecond}),
			parked:  make(chan struct{}), proceed: make(chan struct{}), done: make(chan int),
		}
		r.events.more = make(chan struct{}, 1<<20)
		r.fill = newScript(fill)
		r.hooks.before = func(context.Context, step, string) { r.parked <- struct{}{}; <-r.proceed }
		r.view = For[int](r.Client, Policy{})
		s.readers = append(s.readers, r)
	}
	return s
}

// advance starts the reader's Get, or lets it take one step, and returns when it has stopped again.
func (s *schedule) advance(t *testing.T, r *reader) {
	t.Helper()
	if r.busy {
		r.proceed <- struct{}{}
	} else {
		r.busy, r.floor = true, s.deleted
		go func() {
			v, err := r.view.Get(context.WithoutCancel(t.Context()), key, func(context.Context) (int, error) { return s.version, nil })
			if !assert.NoError(t, err) {
				v = -1
			}
			r.done <- v
		}()
	}
	select {
	case <-r.parked:
	case v := <-r.done:
		r.busy = false
		if v < r.floor {
			s.stale++
		}
	}
}

const operations = 7

func (s *schedule) do(t *testing.T, op int) {
	t.Helper()
	switch op {
	case 0, 1, 2:
		s.advance(t, s.readers[op])
	case 3:
		s.version++
	case 4:
		require.NoError(t, s.w.b.Delete(t.Context(), key))
		s.deleted = s.version
	case 5:
		s.w.redis.FastForward(defaultLease)
	case 6:
		require.NoError(t, s.w.redis.Set(key, strconv.Itoa(s.version))) // foreign bytes
	}
}

// run returns how many reads were stale when operations happen in this order, and afterwards everybody finishes.
func (s *schedule) run(t *testing.T, ops []int) int {
	t.Helper()
	s.w.redis.FlushAll()
	s.version, s.deleted, s.stale = 0, 0, 0
	for _, op := range ops {
		s.do(t, op)
	}
	for range 2 { // the second time they read what the first left behind
		for _, r := range s.readers {
			for s.advance(t, r); r.busy; {
				s.advance(t, r)
			}
		}
	}
	return s.stale
}

func TestNoOrderOfEventsReturnsWhatWasDeleted(t *testing.T) {
	t.Parallel()
	ops := rapid.SliceOfN(rapid.IntRange(0, operations-1), 1, 60)

	t.Run("without the compare some do", func(t *testing.T) {
		t.Parallel()
		s := newSchedule(t, fillAlways)
		stale := 0
		for seed := 0; stale == 0 && seed < 1000; seed++ {
			stale = s.run(t, ops.Example(seed))
		}
		assert.Positive(t, stale)
	})
	t.Run("with it none does", func(t *testing.T) {
		t.Parallel()
		s := newSchedule(t, fillSource)
		rapid.Check(t, func(rt *rapid.T) {
			require.Zero(rt, s.run(t, ops.Draw(rt, "operations")))
		})
	})
}
