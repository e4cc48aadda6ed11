package cacheaside

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests of this file force one interleaving each (the numbers are those of the list of anomalies), and show first
// that it leaves the old value behind without the mechanism that they are about.

// Scripts with the compare taken out.
const (
	fillAlways   = `redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1`
	fillAnyLease = `if string.sub(redis.call('GET', KEYS[1]) or '', 1, 1) ~= 'L' then return 0 end ` + fillAlways
)

func Test4ASlowFillDoesNotOverwriteADelete(t *testing.T) {
	t.Parallel()

	t.Run("naive goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		naive(t, w.other, w.db.load, func() {
			w.db.commit()
			require.NoError(t, w.other.Del(t.Context(), key).Err())
		})
		assert.Equal(t, "old", naive(t, w.other, w.db.load, nothing))
	})

	interleave := func(t *testing.T, w world) string {
		t.Helper()
		w.a.once(stepFill, func() { w.write(t) })
		assert.Equal(t, "old", w.get(t, w.a), "this read began before the write")
		return w.get(t, w.b)
	}
	t.Run("without the compare it goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.a.fill = newScript(fillAlways)
		assert.Equal(t, "old", interleave(t, w))
	})
	t.Run("the fill is rejected", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		assert.Equal(t, "new", interleave(t, w))
		assert.Equal(t, []EventKind{EventRejected}, w.a.events.kinds())
	})
}

func Test7AFillAfterTheLeaseExpiredIsRejected(t *testing.T) {
	t.Parallel()

	// a loads the old value; its lease ends; the write deletes; b leases and loads; a fills, then b.
	run := func(t *testing.T, w world) string {
		t.Helper()
		filling, mayFill, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
		w.b.once(stepFill, func() { close(filling); <-mayFill })
		w.a.once(stepFill, func() {
			w.redis.FastForward(defaultLease)
			w.write(t)
			go func() {
				defer close(done)
				_, _ = w.b.view.Get(context.WithoutCancel(t.Context()), key, w.db.load)
			}()
			<-filling
		})
		w.get(t, w.a)
		close(mayFill)
		<-done
		return w.get(t, w.a)
	}
	t.Run("if any lease will do it goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		w.a.fill, w.b.fill = newScript(fillAnyLease), newScript(fillAnyLease)
		assert.Equal(t, "old", run(t, w))
	})
	t.Run("the fill is rejected and the other's is accepted", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		assert.Equal(t, "new", run(t, w))
		assert.Equal(t, []EventKind{EventRejected, EventHit}, w.a.events.kinds())
		assert.Equal(t, []EventKind{EventFilled}, w.b.events.kinds())
	})
}

func Test13AFillThatLandsLateIsRejected(t *testing.T) {
	t.Parallel()

	t.Run("naive goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		p := newProxy(t, w.redis.Addr(), containing("\r\nset\r\n"))
		slow := connect(t, p.addr, func(o *redis.Options) { o.ReadTimeout, o.MaxRetries = 200*time.Millisecond, -1 })
		require.Error(t, slow.Set(t.Context(), key, w.db.value, time.Hour).Err(), "the reply is late")
		w.db.commit()
		require.NoError(t, w.other.Del(t.Context(), key).Err())
		p.deliver()
		<-p.landed
		assert.Equal(t, "old", naive(t, w.other, w.db.load, nothing))
	})

	interleave := func(t *testing.T, w world, fill string) string {
		t.Helper()
		p := newProxy(t, w.redis.Addr(), containing("\r\neval")) // evalsha and eval
		slow := newProcess(t, p.addr, Options{RedisTimeout: time.Second})
		slow.fill = newScript(fill)
		require.NoError(t, w.other.ScriptLoad(t.Context(), fill).Err())
		assert.Equal(t, "old", w.get(t, slow))
		assert.Equal(t, EventNotFilled, slow.events.last().Kind)
		w.write(t)
		p.deliver()
		<-p.landed
		return w.get(t, w.b)
	}
	t.Run("without the compare it goes stale", func(t *testing.T) {
		t.Parallel()
		assert.Equal(t, "old", interleave(t, setup(t), fillAlways))
	})
	t.Run("the fill is rejected", func(t *testing.T) {
		t.Parallel()
		assert.Equal(t, "new", interleave(t, setup(t), fillSource))
	})
}

func Test13ADeleteThatLandsLateCostsAMissAndNoMore(t *testing.T) {
	t.Parallel()
	w := setup(t)
	p := newProxy(t, w.redis.Addr(), firstOf(containing("\r\nunlink\r\n")))
	slow := newProcess(t, p.addr, Options{DeleteTimeout: 50 * time.Millisecond})
	require.Equal(t, "old", w.get(t, w.b))
	w.db.commit()
	require.ErrorIs(t, slow.Delete(t.Context(), key), ErrOwed)
	slow.events.await(t, EventOwedDone)
	assert.Equal(t, "new", w.get(t, w.b))
	p.deliver()
	<-p.landed
	assert.False(t, w.redis.Exists(key))
	assert.Equal(t, "new", w.get(t, w.b))
}

func Test14ACrashedHolderIsWaitedForNoLongerThanTheLease(t *testing.T) {
	t.Parallel()

	t.Run("a naive lock is held for ever", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		require.NoError(t, w.other.SetNX(t.Context(), "lock:"+key, "crashed", 0).Err())
		w.redis.FastForward(24 * time.Hour)
		assert.True(t, w.redis.Exists("lock:"+key))
	})
	crash := func(t *testing.T, w world) {
		t.Helper()
		l := newLease()
		require.NoError(t, w.other.SetNX(t.Context(), key, l[:], defaultLease).Err())
	}
	t.Run("the lease ends and the next reader fills", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		crash(t, w)
		w.a.once(stepWait, func() { w.redis.FastForward(defaultLease) })
		assert.Equal(t, "old", w.get(t, w.a))
		assert.Equal(t, []EventKind{EventFilled}, w.a.events.kinds())
	})
	t.Run("MaxWait ends and the reader loads without filling", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		crash(t, w)
		c := newProcess(t, w.redis.Addr(), Options{MaxWait: 20 * time.Millisecond})
		assert.Equal(t, "old", w.get(t, c))
		assert.Equal(t, EventNotFilled, c.events.last().Kind)
		require.ErrorIs(t, c.events.last().Err, ErrMaxWait)
		stored, err := w.redis.Get(key)
		require.NoError(t, err)
		assert.Len(t, stored, leaseLen)
	})
}

func Test16ADeleteByAnotherProgramRevokesTheLease(t *testing.T) {
	t.Parallel()
	interleave := func(t *testing.T, command string, prepare func(world)) string {
		t.Helper()
		w := setup(t)
		prepare(w)
		w.a.once(stepFill, func() {
			w.db.commit()
			require.NoError(t, w.other.Do(t.Context(), command, key).Err())
		})
		w.get(t, w.a)
		return w.get(t, w.b)
	}
	t.Run("with the lease under a second key it goes stale", func(t *testing.T) {
		t.Parallel()
		assert.Equal(t, "old", interleave(t, "DEL", func(w world) { w.a.fill = newScript(fillAlways) }),
			"the other program does not know the second key, so the fill finds its lease there")
	})
	for _, command := range []string{"DEL", "UNLINK"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, "new", interleave(t, command, func(world) {}))
		})
	}
}

func Test45ACommitWhoseReplyWasLostIsDeletedFor(t *testing.T) {
	t.Parallel()
	lost := errors.New("commit: connection reset by peer")

	t.Run("naive goes stale", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		require.Equal(t, "old", naive(t, w.other, w.db.load, nothing))
		commit := func() error { w.db.commit(); return lost }
		if err := commit(); err == nil {
			require.NoError(t, w.other.Del(t.Context(), key).Err())
		}
		assert.Equal(t, "old", naive(t, w.other, w.db.load, nothing))
	})
	t.Run("the keys are deleted beside the error", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		require.Equal(t, "old", w.get(t, w.a))
		err := w.b.Write(t.Context(), func(context.Context) ([]string, error) {
			w.db.commit()
			return []string{key}, lost
		})
		require.Equal(t, lost, err, "the error is the write's own")
		assert.Equal(t, "new", w.get(t, w.a))
	})
}
