package daemon

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// age returns how old the oldest undeleted commit is said to be.
func age(t *testing.T, h *health) time.Duration {
	t.Helper()
	seconds := h.snapshot().OldestUndeleted
	require.NotNil(t, seconds)
	return time.Duration(*seconds * float64(time.Second)).Round(time.Millisecond)
}

func TestTheAgeOfTheOldestUndeletedCommitGrowsWhateverIsWrong(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(h *health){
		"redis is away":      func(h *health) { h.Observe(waitingFor(invalidation.PartCache, "refused")) },
		"the source is away": func(h *health) { h.Observe(waitingFor(invalidation.PartSource, "refused")) },
		"the gate is stuck":  func(h *health) { h.Observe(waitingFor(invalidation.PartGate, "timeout")) },
		"a master is behind, and the others go on": func(h *health) {
			h.Observe(waitingFor(invalidation.PartCache+" 127.0.0.1:7002", "refused"))
			h.Observe(idle())
		},
		"slots have no master, and deletes go on in the others": func(h *health) {
			h.Observe(waitingFor(invalidation.PartCache+" slots", "served by no master"))
			h.answered(0)
			h.Observe(idle())
		},
		"nobody tells which server is the master, and deletes go on": func(h *health) {
			h.Observe(waitingFor(invalidation.PartCache+" layout", "refused"))
			h.answered(0)
			h.Observe(idle())
		},
		"a purge is asked for, and deletes go on": func(h *health) {
			h.asked(0, []string{"user:*"})
			h.Observe(idle())
		},
		"somebody purges": func(h *health) {
			h.Observe(purging(invalidation.PurgeStarted, "user:*", 1, 0))
			h.Observe(idle())
		},
		"it is started again and again": func(h *health) {
			h.stopped(errors.New("broken"))
			h.begin()
			h.Observe(working(invalidation.PartSource))
			h.stopped(errors.New("broken"))
		},
		"a purge is dropped as the source begins anew, and asked for again": func(h *health) {
			h.located(0)
			h.asked(0, []string{"user:*"})
			h.Observe(idle())
		},
		"a purge is interrupted": func(h *health) {
			h.asked(0, []string{"user:*"})
			h.stopped(errors.New("broken"))
			h.begin()
		},
		"it ended for good": func(h *health) { h.endedForGood(invalidation.Fatal(errors.New("wrong password"))) },
		"it hangs":          func(*health) {},
		"it says that it works and nothing else": func(h *health) {
			h.Observe(invalidation.Event{Kind: invalidation.Advanced, Text: "uuid:1-7"})
			h.Observe(invalidation.Event{Kind: invalidation.Advanced, Text: "uuid:1-7"})
		},
		"the lease is lost, and nobody leads": func(h *health) { h.Observe(waitingFor(invalidation.PartLease, "refused")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHealth("shop", "mysql")
				each(time.Minute, func() { h.Observe(idle()) })
				require.Zero(t, age(t, h))
				time.Sleep(time.Second)
				each(20*time.Second, func() { happens(h) })
				assert.InDelta(t, 21, age(t, h).Seconds(), 0.1)
				time.Sleep(time.Hour)
				assert.InDelta(t, 3621, age(t, h).Seconds(), 0.1)
			})
		})
	}
}

func TestTheAgeIsThatOfTheNewestDeletedCommit(t *testing.T) {
	t.Parallel()
	ages := func(happens func(h *health)) (got time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			h := newHealth("shop", "mysql")
			time.Sleep(time.Minute)
			happens(h)
			got = age(t, h)
		})
		return got
	}
	assert.Equal(t, time.Minute, ages(func(*health) {}), "nothing is known but when it started")
	assert.Equal(t, 5*time.Second, ages(func(h *health) { h.Observe(read(5 * time.Second)) }))
	assert.Equal(t, time.Duration(0), ages(func(h *health) { h.Observe(read(-5 * time.Second)) }), "a clock is ahead")
	assert.Equal(t, time.Hour, ages(func(h *health) {
		h.Observe(read(time.Second))
		h.Observe(invalidation.Event{Kind: invalidation.Replaying})
		h.Observe(read(time.Hour))
	}), "a replay goes back")
	assert.Equal(t, time.Second, ages(func(h *health) {
		h.Observe(idle())
		h.Observe(invalidation.Event{Kind: invalidation.Replaying})
		time.Sleep(time.Second)
	}), "what was deleted may be back")
	assert.Equal(t, 2*time.Second, ages(func(h *health) {
		h.Observe(idle())
		h.Observe(read(2 * time.Second))
	}), "there was something after all")
	assert.Equal(t, time.Duration(0), ages(func(h *health) {
		h.Observe(read(time.Hour))
		h.Observe(idle())
		time.Sleep(3 * time.Second)
	}), "the source says once a second that there is nothing")
	assert.Equal(t, 4*time.Second, ages(func(h *health) {
		h.Observe(idle())
		time.Sleep(4 * time.Second)
	}), "the source should have said again that there is nothing")
	assert.Equal(t, time.Second, ages(func(h *health) {
		h.Observe(idle())
		h.Observe(waitingFor(invalidation.PartCache, "refused"))
		time.Sleep(time.Second)
	}), "nobody deletes what comes now")
	assert.Equal(t, 10*time.Second, ages(func(h *health) {
		h.Observe(leads(invalidation.Standby, "b"))
		h.Observe(leads(invalidation.Leading, "a"))
		time.Sleep(10 * time.Second)
	}), "the other daemon is answerable for what was before")
}

func TestTheAgeFallsWhenWhatWasOwedIsDone(t *testing.T) {
	t.Parallel()
	const master = invalidation.PartCache + " 127.0.0.1:7002"
	for name, c := range map[string]struct {
		begins func(h *health)
		ends   func(t *testing.T, h *health)
	}{
		"a purge": {
			func(h *health) {
				h.asked(0, []string{"user:*"})
				h.Observe(purging(invalidation.PurgeStarted, "user:*", 7, 0))
			},
			func(_ *testing.T, h *health) { h.Observe(purging(invalidation.PurgeDone, "user:*", 7, 0)) },
		},
		"a purge that was dropped": {
			func(h *health) { h.asked(0, []string{"user:*"}) },
			func(t *testing.T, h *health) {
				t.Helper()
				h.located(0)
				assert.Equal(t, time.Minute, age(t, h), "nobody has purged")
				h.Observe(idle())
			},
		},
		"a master left behind": {
			func(h *health) { h.Observe(waitingFor(master, "refused")) },
			func(t *testing.T, h *health) {
				t.Helper()
				h.Observe(working(master))
				assert.Equal(t, time.Minute, age(t, h), "it gets now what it missed")
				h.Observe(idle())
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHealth("shop", "mysql")
				h.Observe(idle())
				c.begins(h)
				each(time.Minute, func() { h.Observe(idle()) })
				assert.Equal(t, time.Minute, age(t, h))
				c.ends(t, h)
				assert.Zero(t, age(t, h))
			})
		})
	}
}

func TestAPurgeThatWasAskedForAgainIsOwedSinceThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHealth("shop", "mysql")
		started, done := purging(invalidation.PurgeStarted, "user:*", 7, 0), purging(invalidation.PurgeDone, "user:*", 7, 0)
		ask := func() { h.asked(0, []string{"user:*"}) }
		h.Observe(idle())
		ask()
		time.Sleep(time.Minute)
		ask() // the same purge: it has not begun
		h.Observe(started)
		h.Observe(idle())
		time.Sleep(time.Minute)
		ask()
		time.Sleep(time.Minute)
		assert.Equal(t, 3*time.Minute, age(t, h))
		h.Observe(done)
		assert.Equal(t, 2*time.Minute, age(t, h))
		h.Observe(started)
		h.Observe(started) // from the beginning
		h.Observe(idle())
		h.Observe(done)
		assert.Zero(t, age(t, h))
	})
}

func TestAStandbyDoesNotSayHowOldWhatTheLeaderOwesIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHealth("shop", "mysql")
		h.Observe(leads(invalidation.Standby, "b"))
		assert.Nil(t, h.snapshot().OldestUndeleted)
		time.Sleep(time.Minute)
		assert.Equal(t, time.Minute, age(t, h), "it hangs: nobody knows who leads")
	})
}

func TestOnlyMastersAreBehind(t *testing.T) {
	t.Parallel()
	h := newHealth("shop", "mysql")
	for _, part := range []string{" slots", " layout", " 127.0.0.1:7002"} {
		h.Observe(waitingFor(invalidation.PartCache+part, "refused"))
	}
	assert.Equal(t, []string{"127.0.0.1:7002"}, h.snapshot().Behind)
	assert.Len(t, h.snapshot().Waiting, 3)
}
