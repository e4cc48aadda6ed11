package daemon

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// runFunc is a part.
type runFunc func(ctx context.Context) error

func (f runFunc) Run(ctx context.Context) error { return f(ctx) }

func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func silentWatch(name string) watch {
	return newWatch(slog.New(slog.DiscardHandler), newRedactor(), name, "mysql")
}

// supervised is a supervisor whose parts are these, every time.
func supervised(parts ...part) *supervisor {
	return &supervisor{watch: silentWatch("shop"), feed: newFeed(slog.New(slog.DiscardHandler)), assemble: func(watch) (assembly, error) {
		return assembly{parts: parts, close: func() error { return nil }}, nil
	}}
}

// runFleet runs sources as the daemon does.
func runFleet(ctx context.Context, supervisors ...*supervisor) error {
	f := newFleet(slog.New(slog.DiscardHandler))
	for _, s := range supervisors {
		f.members = append(f.members, &member{supervisor: s})
	}
	return f.run(ctx, nil, nil, nil)
}

// scripted ends its first runs with these errors, then runs until it is told
// to stop. It notes when each run began.
func scripted(ended ...error) (source part, starts *[]time.Duration) {
	begin := time.Now()
	starts = &[]time.Duration{}
	return runFunc(func(ctx context.Context) error {
		*starts = append(*starts, time.Since(begin))
		if n := len(*starts); n <= len(ended) {
			return ended[n-1]
		}
		return untilDone(ctx)
	}), starts
}

func TestAResumeStartsAgainAtOnceAndLessOftenWhenItRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source, starts := scripted(invalidation.ErrResume, invalidation.ErrResume, invalidation.ErrResume)
		s := supervised(source)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, s.run(ctx), context.DeadlineExceeded)
		require.Len(t, *starts, 4)
		assert.Equal(t, 100*time.Millisecond, (*starts)[1])
		for i := 2; i < 4; i++ {
			pause := (*starts)[i] - (*starts)[i-1]
			assert.Greater(t, pause, 50*time.Millisecond)
			assert.Less(t, pause, time.Second)
		}
		assert.Equal(t, 3, s.watch.snapshot().Restarts)
	})
}

func TestASourceThatRanForLongResumesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Time
		s := supervised(runFunc(func(ctx context.Context) error {
			starts = append(starts, time.Now())
			if sleep(ctx, time.Minute) != nil {
				return ctx.Err()
			}
			return invalidation.ErrResume
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
		defer cancel()
		require.Error(t, s.run(ctx))
		require.Len(t, starts, 3)
		assert.Equal(t, time.Minute, starts[1].Sub(starts[0]))
		assert.Equal(t, time.Minute, starts[2].Sub(starts[1]))
	})
}

func TestOtherErrorsStartAgainWithAGrowingPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fail []error
		for range 20 {
			fail = append(fail, errors.New("broken"))
		}
		source, starts := scripted(fail...)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		require.Error(t, supervised(source).run(ctx))
		require.Len(t, *starts, 21)
		for i := 1; i < len(*starts); i++ {
			pause := (*starts)[i] - (*starts)[i-1]
			assert.GreaterOrEqual(t, pause, 50*time.Millisecond)
			assert.LessOrEqual(t, pause, 7500*time.Millisecond)
		}
	})
}

func TestWhenOnePartEndsTheOthersAreStoppedAndAwaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stopped := false
		slow := runFunc(func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			stopped = true
			return ctx.Err()
		})
		broken := runFunc(func(context.Context) error { return invalidation.Fatal(errors.New("wrong password")) })
		err := supervised(slow, broken).run(t.Context())
		require.ErrorIs(t, err, invalidation.ErrFatal)
		assert.True(t, stopped)
	})
}

func TestAFatalErrorStopsTheOtherSourcesAndIsReturned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stopped := false
		healthy := supervised(runFunc(func(ctx context.Context) error {
			defer func() { stopped = true }()
			return untilDone(ctx)
		}))
		broken := supervised(runFunc(func(ctx context.Context) error {
			if sleep(ctx, time.Hour) != nil {
				return ctx.Err()
			}
			return invalidation.Fatal(errors.New("wrong password"))
		}))
		err := runFleet(t.Context(), healthy, broken)
		require.EqualError(t, err, "wrong password")
		assert.True(t, stopped)
	})
}

func TestPartsThatCanNotBeMadeAreFatal(t *testing.T) {
	t.Parallel()
	s := &supervisor{watch: silentWatch("shop"), feed: newFeed(slog.New(slog.DiscardHandler)), assemble: func(watch) (assembly, error) { return assembly{}, errors.New("no such file") }}
	require.ErrorIs(t, s.run(t.Context()), invalidation.ErrFatal)
}

func TestAPartThatReturnsNothingIsStartedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source, starts := scripted(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.Error(t, supervised(source).run(ctx))
		assert.Len(t, *starts, 2)
	})
}

func TestAShutdownWaitsForTheSourcesButNotForEver(t *testing.T) {
	t.Parallel()
	for name, takes := range map[string]time.Duration{"in time": 4 * time.Second, "too slow": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				begin := time.Now()
				s := supervised(runFunc(func(ctx context.Context) error {
					<-ctx.Done()
					time.Sleep(takes)
					return ctx.Err()
				}))
				cancel()
				require.NoError(t, runFleet(ctx, s))
				assert.Equal(t, min(takes, stopWithin), time.Since(begin))
				time.Sleep(takes) // the bubble has to see it end
			})
		})
	}
}
