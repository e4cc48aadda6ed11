package daemon

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// rememberingSink is one that tells what its cache remembers.
type rememberingSink struct{ dryRunSink }

func (rememberingSink) Stored() []string { return []string{"a", ""} }

func TestAWatchedSinkLosesNothingOfTheOneInside(t *testing.T) {
	t.Parallel()
	w := silentWatch("shop")
	inner := rememberingSink{dryRunSink{rows: true}}
	for name, sink := range map[string]invalidation.Sink{
		"around the cache":         watchedSink{Sink: inner, watch: w},
		"below another Sink":       watchedSink{Sink: inner, watch: w, beneath: true},
		"around all Sinks":         w.calls(inner),
		"around all Sinks, on top": w.calls(watchedSink{Sink: inner, watch: w, beneath: true}),
	} {
		require.Implements(t, (*storing)(nil), sink, name)
		assert.Equal(t, []string{"a", ""}, sink.(storing).Stored(), name)
		positions, err := sink.Positions(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []string{""}, positions, name)
		require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}}))
	}
	assert.NotImplements(t, (*storing)(nil), w.calls(dryRunSink{}), "a Source goes by it")
	assert.Equal(t, []string{""}, watchedSink{Sink: dryRunSink{}, watch: w}.Stored(), "not known")
}

func TestPatternsThatAreHandedOverAreOwedUntilTheyArePurged(t *testing.T) {
	t.Parallel()
	w := silentWatch("shop")
	sink := watchedSink{Sink: dryRunSink{rows: true}, watch: w}
	w.Observe(idle())
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Patterns: []string{"user:*"}}))
	s := w.snapshot()
	assert.Equal(t, Purging, s.State)
	assert.True(t, s.Ready)
	assert.Equal(t, []Purge{{Pattern: "user:*"}}, s.Purges)
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	assert.Empty(t, w.snapshot().Purges, "the Sink drops them, and the source asks again")
}

func TestWhatAnEarlierAttemptStillSaysIsNotHeard(t *testing.T) {
	t.Parallel()
	log, lines := logged(slog.LevelInfo)
	w := newWatch(log, newRedactor(), "shop", "mysql")
	first := w.begin()
	first.Observe(idle())
	first.stopped(errors.New("broken"))
	second := w.begin()
	second.Observe(working(invalidation.PartSource))
	lines()

	late := watchedSink{Sink: dryRunSink{rows: true}, watch: first}
	require.NoError(t, late.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}, Patterns: []string{"order:*"}}))
	first.Observe(idle())
	first.Observe(waitingFor(invalidation.PartCache, "closed"))
	first.Observe(purging(invalidation.PurgeStarted, "user:*", 7, 0))
	s := w.snapshot()
	assert.Equal(t, Running, s.State)
	assert.Equal(t, "no progress since the last start or change of leader", s.Reason)
	assert.Empty(t, s.Purges)
	assert.Empty(t, lines())
	second.Observe(idle())
	assert.True(t, w.snapshot().Ready)
}

func TestObserversMayBeCalledFromManyGoroutines(t *testing.T) {
	t.Parallel()
	w := newWatch(slog.New(slog.DiscardHandler), newRedactor(), "shop", "mysql").metered(newMetrics("", ""), nil)
	sink := watchedSink{Sink: dryRunSink{rows: true}, watch: w}
	ended := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { ended <- struct{}{} }()
			for i := range 200 {
				_ = sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}, Patterns: []string{"user:*"}})
				w.Observe(invalidation.Event{Kind: invalidation.Kind(1 + i%int(invalidation.Noted)), Part: invalidation.PartCache, Text: "user:*", Count: i})
				w.SetLag(int64(i), 0)
				w.snapshot()
				w.wedged(time.Now())
				if i%50 == 0 {
					w.stopped(invalidation.ErrResume)
					w.begin()
				}
			}
		}()
	}
	for range 4 {
		<-ended
	}
}
