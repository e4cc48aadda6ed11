package cacheaside

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// set commits a value.
func (d *database) set(value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.value = value
}

// writes commits value and deletes the key, in process p. before runs between the start of the write and its commit.
func (w world) writes(t *testing.T, p process, value string, before func()) {
	t.Helper()
	require.NoError(t, p.Write(t.Context(), func(context.Context) ([]string, error) {
		before()
		w.db.set(value)
		return []string{key}, nil
	}))
}

func Test1TwoUpdatesDoNotLeaveTheOlderOne(t *testing.T) {
	t.Parallel()

	t.Run("naive goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.db.set("1")
		w.db.set("2")
		require.NoError(t, w.other.Set(t.Context(), key, "2", time.Hour).Err())
		require.NoError(t, w.other.Set(t.Context(), key, "1", time.Hour).Err(), "the first writer was slow")
		assert.Equal(t, "1", naive(t, w.other, w.db.load, nothing))
	})
	t.Run("a write sets nothing, so its order does not matter", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.a.once(stepDelete, func() {
			w.writes(t, w.b, "2", nothing)
			assert.False(t, w.redis.Exists(key))
			assert.Equal(t, "2", w.get(t, w.b))
		})
		w.writes(t, w.a, "1", nothing)
		assert.False(t, w.redis.Exists(key))
		assert.Equal(t, "2", w.get(t, w.b))
	})
}

func Test2TheCacheIsNeverAheadOfTheDatabase(t *testing.T) {
	t.Parallel()

	t.Run("naive goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		for _, value := range []string{"1", "2"} {
			require.NoError(t, w.other.Set(t.Context(), key, value, time.Hour).Err())
		}
		w.db.set("2")
		w.db.set("1")
		assert.Equal(t, "2", naive(t, w.other, w.db.load, nothing), "the database has 1")
	})
	t.Run("the cache is touched after the commit only", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		assert.Equal(t, "old", w.get(t, w.b))
		w.writes(t, w.a, "1", func() {
			assert.Equal(t, "old", w.get(t, w.b), "nothing is committed, and nothing was deleted")
			w.writes(t, w.b, "2", nothing)
			assert.Equal(t, "2", w.get(t, w.b))
		})
		assert.Equal(t, "1", w.get(t, w.b))
	})
}

func Test3ADeleteComesAfterTheCommit(t *testing.T) {
	t.Parallel()

	t.Run("naive goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		require.NoError(t, w.other.Del(t.Context(), key).Err())
		naive(t, w.other, w.db.load, nothing)
		w.db.commit()
		assert.Equal(t, "old", naive(t, w.other, w.db.load, nothing))
	})
	t.Run("so does a Delete before the commit", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		require.NoError(t, w.a.Delete(t.Context(), key))
		w.get(t, w.b)
		w.db.commit()
		assert.Equal(t, "old", w.get(t, w.b))
	})
	t.Run("Write deletes what was filled before the commit", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.writes(t, w.a, "new", func() { assert.Equal(t, "old", w.get(t, w.b)) })
		assert.Equal(t, "new", w.get(t, w.b))
	})
	t.Run("and rejects what was only loaded", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.b.once(stepFill, func() { w.writes(t, w.a, "new", nothing) })
		w.writes(t, w.a, "older", func() { assert.Equal(t, "old", w.get(t, w.b)) })
		assert.Equal(t, []EventKind{EventRejected}, w.b.events.kinds())
		assert.Equal(t, "older", w.get(t, w.b), "it was committed last")
	})
}

func Test5AReaderMaySleepPastASecondDelete(t *testing.T) {
	t.Parallel()
	twice := func(t *testing.T, w world) {
		t.Helper()
		w.write(t)
		w.redis.FastForward(time.Second) // which is what a delayed second delete waits
		require.NoError(t, w.b.Delete(t.Context(), key))
	}
	t.Run("naive goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		naive(t, w.other, w.db.load, func() { twice(t, w) })
		assert.Equal(t, "old", naive(t, w.other, w.db.load, nothing))
	})

	interleave := func(t *testing.T, w world, writes func(*testing.T, world)) string {
		t.Helper()
		w.a.once(stepFill, func() { writes(t, w) })
		assert.Equal(t, "old", w.get(t, w.a), "this read began before the write")
		return w.get(t, w.b)
	}
	t.Run("without the compare it goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.a.fill = newScript(fillAlways)
		assert.Equal(t, "old", interleave(t, w, twice))
	})
	t.Run("one delete is enough, however slow the reader is", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		assert.Equal(t, "new", interleave(t, w, func(t *testing.T, w world) {
			t.Helper()
			w.write(t)
			w.redis.FastForward(24 * time.Hour)
		}))
		assert.Equal(t, []EventKind{EventRejected}, w.a.events.kinds())
	})
}

func Test6ARollbackLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	rolledBack := errors.New("rolled back")
	inside := func(context.Context) (string, error) { return "uncommitted", nil } // what the transaction sees

	t.Run("naive goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		naive(t, w.other, inside, nothing)
		assert.Equal(t, "uncommitted", naive(t, w.other, w.db.load, nothing), "the transaction was rolled back")
	})
	t.Run("a loader outside of the transaction fills what is committed", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		err := w.a.Write(t.Context(), func(context.Context) ([]string, error) {
			assert.Equal(t, "old", w.get(t, w.b))
			return nil, rolledBack
		})
		require.Equal(t, rolledBack, err)
		assert.Equal(t, "old", w.get(t, w.b))
	})

	// A loader inside of the transaction is exempt from the guarantee. Write deletes for it all the same.
	readInside := func(t *testing.T, p process) {
		t.Helper()
		v, err := p.view.Get(t.Context(), key, inside)
		require.NoError(t, err)
		assert.Equal(t, "uncommitted", v)
	}
	t.Run("what a loader inside of it filled is deleted", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		err := w.a.Write(t.Context(), func(context.Context) ([]string, error) {
			readInside(t, w.b)
			return []string{key}, rolledBack
		})
		require.Equal(t, rolledBack, err)
		assert.Equal(t, "old", w.get(t, w.b))
	})
	t.Run("and what it fills later is rejected", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.b.once(stepFill, func() {
			err := w.a.Write(t.Context(), func(context.Context) ([]string, error) { return []string{key}, rolledBack })
			assert.Equal(t, rolledBack, err)
		})
		readInside(t, w.b)
		assert.Equal(t, "old", w.get(t, w.b))
	})
}
