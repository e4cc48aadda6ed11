package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// stuckSink answers nothing until its context is done.
type stuckSink struct{}

func (stuckSink) Apply(ctx context.Context, _ invalidation.Batch) error { return untilDone(ctx) }

func (stuckSink) Positions(ctx context.Context) ([]string, error) { return nil, untilDone(ctx) }

func TestASourceThatIsNotHeardForHalfAMinuteIsWedged(t *testing.T) {
	t.Parallel()
	const source, cache = "the source", "the cache, which the source waits for"
	long := 10 * time.Minute
	cases := map[string]struct {
		happens func(w watch)
		from    string // who is not heard
	}{
		"a source that reads": {func(w watch) { each(long, func() { w.Observe(idle()) }) }, ""},
		"a source that can not connect": {func(w watch) {
			each(long, func() { w.Observe(waitingFor(invalidation.PartSource, "refused")) })
		}, ""},
		"a source whose gate is slow": {func(w watch) {
			for range 30 {
				time.Sleep(10 * time.Second)
				w.Observe(waitingFor(invalidation.PartGate, "timeout"))
			}
		}, ""},
		"a source that sends heartbeats only": {func(w watch) {
			each(long, func() {
				_ = watchedSink{Sink: dryRunSink{rows: true}, watch: w}.Apply(t.Context(), invalidation.Batch{})
			})
		}, ""},
		"a cache that is away": {func(w watch) {
			w.called(w.attempt)
			each(long, func() { w.Observe(waitingFor(invalidation.PartCache, "refused")) })
		}, ""},
		"a daemon that stands by": {func(w watch) {
			w.called(w.attempt)
			each(long, func() { w.Observe(leads(invalidation.Standby, "b")) })
		}, ""},
		"restarts": {func(w watch) {
			for range 30 {
				w.stopped(errors.New("broken"))
				time.Sleep(7 * time.Second)
				w.begin()
			}
		}, ""},
		"a source that ended for good, which it has told": {func(w watch) {
			w.endedForGood(invalidation.Fatal(errors.New("wrong password")))
			time.Sleep(long)
		}, ""},
		"nothing ever starts":     {func(watch) { time.Sleep(31 * time.Second) }, source},
		"a supervisor that hangs": {func(w watch) { w.stopped(errors.New("broken")); time.Sleep(31 * time.Second) }, source},
		"a source that hangs": {func(w watch) {
			each(long, func() { w.Observe(idle()) })
			time.Sleep(31 * time.Second)
		}, source},
		"a source that hangs while the Sink works on": {func(w watch) {
			w.Observe(idle())
			each(time.Minute, func() {
				w.Observe(purging(invalidation.PurgeProgress, "user:*", 1, 1))
				w.Observe(invalidation.Event{Kind: invalidation.Deleted, Part: invalidation.PartCache, Count: 1})
				w.Observe(invalidation.Event{Kind: invalidation.Pruned, Part: invalidation.PartSource, Count: 1})
				_ = watchedSink{Sink: dryRunSink{rows: true}, watch: w, beneath: true}.Apply(t.Context(), invalidation.Batch{Keys: []string{"second"}})
			})
		}, source},
		"a Sink that hangs while its purge goes on": {func(w watch) {
			w.called(w.attempt)
			each(time.Minute, func() {
				w.Observe(invalidation.Event{Kind: invalidation.Noted, Part: invalidation.PartSource})
				w.Observe(purging(invalidation.PurgeProgress, "user:*", 1, 1))
			})
		}, cache},
		"a Sink that hangs while the lease is asked for": {func(w watch) {
			w.called(w.attempt)
			each(time.Minute, func() { w.Observe(waitingFor(invalidation.PartLease, "refused")) })
		}, cache},
		"a standby that hangs": {func(w watch) {
			w.called(w.attempt)
			w.Observe(leads(invalidation.Standby, "b"))
			time.Sleep(31 * time.Second)
		}, cache},
		"a late event of an earlier attempt is no sign of life": {func(w watch) {
			late := w.begin()
			w.begin()
			each(time.Minute, func() { late.Observe(idle()) })
		}, source},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := silentWatch("orders")
				c.happens(w)
				text := w.wedged(time.Now())
				if c.from == "" {
					assert.Empty(t, text)
					return
				}
				assert.Contains(t, text, "from "+c.from+": it hangs")
				assert.Equal(t, Wedged, w.snapshot().State)
				assert.False(t, w.snapshot().Ready)
				w.begin().Observe(idle())
				assert.Empty(t, w.wedged(time.Now()), "it came back")
			})
		})
	}
}

func TestACallThatTheCacheNeverAnswersIsSeenThroughEverySink(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(w watch) invalidation.Sink{
		"one": func(w watch) invalidation.Sink { return watchedSink{Sink: stuckSink{}, watch: w} },
		"another in between": func(w watch) invalidation.Sink {
			return w.calls(watchedSink{Sink: stuckSink{}, watch: w, beneath: true})
		},
	} {
		for call, do := range map[string]func(context.Context, invalidation.Sink) error{
			"Apply": func(ctx context.Context, s invalidation.Sink) error { return s.Apply(ctx, invalidation.Batch{}) },
			"Positions": func(ctx context.Context, s invalidation.Sink) error {
				_, err := s.Positions(ctx)
				return err
			},
		} {
			t.Run(name+" "+call, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := silentWatch("shop").begin()
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					ended := make(chan error, 1)
					go func() { ended <- do(ctx, wrap(w)) }()
					time.Sleep(31 * time.Second)
					assert.Contains(t, w.wedged(time.Now()), "for 31s from the cache")
					require.ErrorIs(t, <-ended, context.DeadlineExceeded)
					assert.Empty(t, w.wedged(time.Now()), "it has returned")
				})
			})
		}
	}
}
