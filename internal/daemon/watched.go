package daemon

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// watch follows one source: its health, its journal and its metrics. Nothing
// that it is told gets past it with a secret.
//
// To wire: newWatch(…).metered(metrics, groupNames(source)) once for a source;
// begin for each attempt, whose result is the Observer of all parts and the
// watch of a watchedSink; stopped when the attempt has ended.
type watch struct {
	*health
	*journal

	redact  redactor
	metrics *sourceMetrics // nil: nobody counts
	attempt int            // 0: any
}

func newWatch(log *slog.Logger, redact redactor, source, kind string) watch {
	return watch{health: newHealth(source, kind), journal: newJournal(log, source), redact: redact}
}

// metered returns the same watch, which counts in m from then on. groups are
// the names of groups that Deleted events may have.
func (w watch) metered(m *metrics, groups []string) watch {
	w.metrics = m.source(w.health, groups)
	return w
}

// begin returns the watch of a new attempt. What those of earlier ones hear
// from then on is only counted.
func (w watch) begin() watch {
	w.attempt = w.health.begin()
	return w
}

// Observe implements invalidation.Observer.
func (w watch) Observe(e invalidation.Event) {
	e = w.redact.event(e)
	w.metrics.Observe(e)
	if w.observe(w.attempt, e) {
		w.journal.Observe(e)
	}
}

// answered says that the cache answered a batch.
func (w watch) answered() {
	if w.health.answered(w.attempt) {
		w.journal.answered()
	}
}

// stopped says that the source ended with err and will be started again.
func (w watch) stopped(err error) {
	err = w.redact.error(err)
	w.metrics.stopped(err)
	w.health.stopped(err)
	w.journal.stopped(err)
}

// endedForGood says that the source ended with err, and that no start follows.
func (w watch) endedForGood(err error) {
	err = w.redact.error(err)
	w.health.endedForGood(err)
	w.journal.endedForGood(err)
}

// watchedSink tells a source's watch that the cache answers and what has to be
// purged, and logs what is deleted at debug level.
//
// It goes around the Sink of the cache. Where another Sink is between that and
// the source, set beneath, and put watch.calls around the outer one.
type watchedSink struct {
	invalidation.Sink

	watch    watch
	showKeys bool
	beneath  bool // not only the source calls it
}

// Positions implements invalidation.Sink.
func (s watchedSink) Positions(ctx context.Context) ([]string, error) {
	if s.beneath {
		return s.Sink.Positions(ctx)
	}
	return sourceSink{s.Sink, s.watch}.Positions(ctx)
}

// Apply implements invalidation.Sink.
func (s watchedSink) Apply(ctx context.Context, b invalidation.Batch) error {
	if len(b.Keys) > 0 && s.watch.log.Enabled(ctx, slog.LevelDebug) {
		s.watch.log.LogAttrs(ctx, slog.LevelDebug, "deleting", slog.String("keys", s.show(b.Keys)))
	}
	// Before the call, which the beginning of the purge may overtake.
	patterns := slices.Clone(b.Patterns)
	s.watch.asked(s.watch.attempt, patterns)
	if err := s.apply(ctx, b); err != nil {
		s.watch.notAsked(s.watch.attempt, patterns)
		return err
	}
	s.watch.answered()
	return nil
}

func (s watchedSink) apply(ctx context.Context, b invalidation.Batch) error {
	if s.beneath {
		return s.Sink.Apply(ctx, b)
	}
	return sourceSink{s.Sink, s.watch}.Apply(ctx, b)
}

// Stored passes on what the cache is known to remember, for Sources that ask:
// nothing, where the Sink does not say.
func (s watchedSink) Stored() []string {
	if inner, ok := s.Sink.(storing); ok {
		return inner.Stored()
	}
	return []string{""}
}

// show lists keys. They can be personal data, so it masks them unless the
// configuration says otherwise.
func (s watchedSink) show(keys []string) string {
	if s.showKeys {
		return strings.Join(keys, " ")
	}
	masked := make([]string, len(keys))
	for i, key := range keys {
		masked[i] = mask(key)
	}
	return strings.Join(masked, " ")
}

// mask hides a key: any part of it may be personal data.
func mask(string) string { return hidden }

// sourceSink tells a source's watch when the source waits for the cache, and so
// who has to give a sign of life, and when it begins anew.
type sourceSink struct {
	invalidation.Sink

	watch watch
}

// Positions implements invalidation.Sink.
func (s sourceSink) Positions(ctx context.Context) ([]string, error) {
	s.watch.locating(s.watch.attempt)
	positions, err := s.Sink.Positions(ctx)
	s.watch.returned(s.watch.attempt, 0, err)
	if err == nil {
		s.watch.located(s.watch.attempt)
	}
	return positions, err
}

// Apply implements invalidation.Sink.
func (s sourceSink) Apply(ctx context.Context, b invalidation.Batch) error {
	keys := len(b.Keys) // the Sink owns the batch from then on
	s.watch.called(s.watch.attempt)
	err := s.Sink.Apply(ctx, b)
	s.watch.returned(s.watch.attempt, keys, err)
	return err
}

// storing is a Sink that tells what the cache remembers.
type storing interface{ Stored() []string }

// heardSink is a sourceSink around a Sink that is storing.
type heardSink struct {
	sourceSink
	storing
}

// calls returns a sourceSink around the outermost Sink. It is storing where
// that is: a Source goes by it.
func (w watch) calls(sink invalidation.Sink) invalidation.Sink {
	around := sourceSink{sink, w}
	if inner, ok := sink.(storing); ok {
		return heardSink{around, inner}
	}
	return around
}
