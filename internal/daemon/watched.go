package daemon

import (
	"context"
	"log/slog"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// watch follows one source: its health and its journal. Nothing that it is told
// gets past it with a secret.
type watch struct {
	*health
	*journal

	redact redactor
}

func newWatch(log *slog.Logger, redact redactor, source, kind string) watch {
	return watch{newHealth(source, kind), newJournal(log, source), redact}
}

// Observe implements invalidation.Observer.
func (w watch) Observe(e invalidation.Event) {
	e = w.redact.event(e)
	w.health.Observe(e)
	w.journal.Observe(e)
}

// answered says that the cache answered a batch.
func (w watch) answered() {
	w.health.answered()
	w.journal.answered()
}

// stopped says that the source ended with err and will be started again.
func (w watch) stopped(err error) {
	err = w.redact.error(err)
	w.health.stopped(err)
	w.journal.stopped(err)
}

// watchedSink tells a source's watch that the cache answers, and logs what is
// deleted at debug level.
type watchedSink struct {
	invalidation.Sink

	watch    watch
	showKeys bool
}

// Apply implements invalidation.Sink.
func (s watchedSink) Apply(ctx context.Context, b invalidation.Batch) error {
	if len(b.Keys) > 0 && s.watch.log.Enabled(ctx, slog.LevelDebug) {
		s.watch.log.LogAttrs(ctx, slog.LevelDebug, "deleting", slog.String("keys", s.show(b.Keys)))
	}
	if err := s.Sink.Apply(ctx, b); err != nil {
		return err
	}
	s.watch.answered()
	return nil
}

// show lists keys. They can be personal data, so it masks all behind the first
// colon unless the configuration says otherwise.
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
