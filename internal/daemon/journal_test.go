package daemon

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// logged returns the lines of a log, without their time.
func logged(level slog.Level) (*slog.Logger, func() []string) {
	var out strings.Builder
	return textLogger(&out, level), func() []string {
		text := strings.TrimSpace(out.String())
		out.Reset()
		if text == "" {
			return nil
		}
		return strings.Split(text, "\n")
	}
}

func textLogger(out io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestAWaitIsLoggedOnceUntilItEndsOrGoesOnForAnotherReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, lines := logged(slog.LevelInfo)
		j := newJournal(log, "shop")
		for _, e := range []invalidation.Event{
			working(invalidation.PartCache),
			waitingFor(invalidation.PartCache, "read 127.0.0.1:40001: reset, attempt 1"),
			waitingFor(invalidation.PartCache, "read 127.0.0.1:40002: reset, attempt 2"),
			waitingFor(invalidation.PartCache, "LOADING"),
			working(invalidation.PartCache),
			working(invalidation.PartCache),
			waitingFor(invalidation.PartCache, "refused"),
		} {
			j.Observe(e)
		}
		time.Sleep(reasonEvery)
		j.Observe(waitingFor(invalidation.PartCache, "refused"))
		j.Observe(waitingFor(invalidation.PartCache, "LOADING"))
		assert.Equal(t, []string{
			`level=INFO msg=working source=shop part=redis state=running`,
			`level=WARN msg=waiting source=shop part=redis state=waiting error="read 127.0.0.1:40001: reset, attempt 1"`,
			`level=INFO msg=working source=shop part=redis state=running`,
			`level=WARN msg=waiting source=shop part=redis state=waiting error=refused`,
			`level=WARN msg=waiting source=shop part=redis state=waiting error=LOADING`,
		}, lines())
	})
}

func TestRestartsForTheSameReasonAreLoggedOnce(t *testing.T) {
	t.Parallel()
	log, lines := logged(slog.LevelInfo)
	j := newJournal(log, "shop")
	for range 3 {
		j.stopped(errors.New("broken\nin two lines"))
	}
	assert.Equal(t, []string{`level=WARN msg="starting again" source=shop state=waiting error="broken; in two lines"`}, lines())
}

func TestAPurgeIsAnnouncedFollowedNowAndThenAndEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, lines := logged(slog.LevelInfo)
		j := newJournal(log, "shop")
		purge := func(kind invalidation.Kind, count int) {
			j.Observe(invalidation.Event{Kind: kind, Part: invalidation.PartCache, Text: "user:*", Count: count})
		}
		j.Observe(invalidation.Event{Kind: invalidation.Lost, Part: invalidation.PartSource, Text: "evicted"})
		purge(invalidation.PurgeStarted, 5000)
		for i := range 25 {
			time.Sleep(time.Second)
			purge(invalidation.PurgeProgress, 100*i)
		}
		purge(invalidation.PurgeDone, 2500)
		assert.Equal(t, []string{
			`level=WARN msg="no usable position" source=shop part=source reason=evicted`,
			`level=INFO msg="purge begins" source=shop part=redis pattern=user:* keys_in_cache=5000`,
			`level=INFO msg="purge goes on" source=shop part=redis pattern=user:* deleted=900`,
			`level=INFO msg="purge goes on" source=shop part=redis pattern=user:* deleted=1900`,
			`level=INFO msg="purge done" source=shop part=redis pattern=user:* deleted=2500`,
		}, lines())
	})
}

func TestAnAnswerOrProgressEndsAWaitThatNobodyEnded(t *testing.T) {
	t.Parallel()
	log, lines := logged(slog.LevelInfo)
	w := newWatch(log, newRedactor(), "shop", "mysql")
	w.Observe(waitingFor(invalidation.PartCache, "LOADING"))
	w.Observe(waitingFor(invalidation.PartGate, "timeout"))
	lines()
	for range 2 {
		w.answered()
		w.Observe(invalidation.Event{Kind: invalidation.Advanced})
	}
	w.Observe(waitingFor(invalidation.PartCache, "LOADING"))
	assert.Equal(t, []string{
		`level=INFO msg=working source=shop part=redis state=running`,
		`level=INFO msg=working source=shop part=source state=running`,
		`level=WARN msg=waiting source=shop part=redis state=waiting error=LOADING`,
	}, lines())
}

func TestATableWhoseKeysAreNotKnownIsLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, lines := logged(slog.LevelInfo)
		j := newJournal(log, "shop")
		for range 100 {
			j.Observe(invalidation.Event{Kind: invalidation.Incomplete, Text: "shop.users", Err: errors.New("minimal image")})
			time.Sleep(time.Second)
		}
		assert.Len(t, lines(), 2)
	})
}

func TestKeysAreMaskedInTheLogUnlessTheOperatorWantsThem(t *testing.T) {
	t.Parallel()
	for name, want := range map[bool]string{
		false: `level=DEBUG msg=deleting source=shop keys="*** ***"`,
		true:  `level=DEBUG msg=deleting source=shop keys="user:ann@example.org plain"`,
	} {
		log, lines := logged(slog.LevelDebug)
		w := newWatch(log, newRedactor(), "shop", "mysql")
		sink := watchedSink{Sink: dryRunSink{rows: true}, watch: w, showKeys: name}
		require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"user:ann@example.org", "plain"}}))
		assert.Equal(t, want, lines()[0])
	}
}

func TestDeletesAreNotLoggedAtInfoLevel(t *testing.T) {
	t.Parallel()
	log, lines := logged(slog.LevelInfo)
	w := newWatch(log, newRedactor(), "shop", "mysql")
	sink := watchedSink{Sink: dryRunSink{rows: true}, watch: w}
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"user:1"}}))
	w.Observe(invalidation.Event{Kind: invalidation.Advanced})
	lines() // both work, which is news
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"user:1"}}))
	w.Observe(invalidation.Event{Kind: invalidation.Deleted, Count: 1})
	w.Observe(invalidation.Event{Kind: invalidation.Advanced})
	assert.Empty(t, lines())
}
