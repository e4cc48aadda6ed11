package daemon

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// logged returns a log, and what takes the lines that have come since the last
// call, without their time.
func logged(level slog.Level) (*slog.Logger, func() []string) {
	out := &sharedText{}
	return textLogger(out, level), func() []string {
		text := strings.TrimSpace(out.take())
		if text == "" {
			return nil
		}
		return strings.Split(text, "\n")
	}
}

// sharedText may be written and taken by several goroutines.
type sharedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *sharedText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *sharedText) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.text.String()
	s.text.Reset()
	return text
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
			j.Observe(purging(kind, "user:*", count, 2*count))
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
			`level=INFO msg="purge goes on" source=shop part=redis pattern=user:* deleted=900 scanned=1800`,
			`level=INFO msg="purge goes on" source=shop part=redis pattern=user:* deleted=1900 scanned=3800`,
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

func TestALeaderIsLoggedOnceUntilAnotherOneLeads(t *testing.T) {
	t.Parallel()
	log, lines := logged(slog.LevelInfo)
	j := newJournal(log, "shop")
	for range 3 {
		j.Observe(leads(invalidation.Standby, "b"))
	}
	j.Observe(leads(invalidation.Standby, "c"))
	j.Observe(leads(invalidation.Leading, "a"))
	j.Observe(leads(invalidation.Standby, "c"))
	assert.Equal(t, []string{
		`level=INFO msg="standing by" source=shop part=lease state=standby leader=b`,
		`level=INFO msg="standing by" source=shop part=lease state=standby leader=c`,
		`level=INFO msg=leading source=shop part=lease state=leading`,
		`level=INFO msg="standing by" source=shop part=lease state=standby leader=c`,
	}, lines())
}

func TestALeaseThatIsLostTwiceIsLoggedTwice(t *testing.T) {
	t.Parallel()
	for line, between := range map[string]invalidation.Event{
		"level=INFO msg=working source=shop part=lease state=running":                    working(invalidation.PartLease),
		"level=INFO msg=leading source=shop part=lease state=leading":                    leads(invalidation.Leading, "a"),
		`level=INFO msg="standing by" source=shop part=lease state=standby leader=other`: leads(invalidation.Standby, "other"),
	} {
		log, lines := logged(slog.LevelInfo)
		j := newJournal(log, "shop")
		j.Observe(waitingFor(invalidation.PartLease, "refused"))
		j.Observe(between)
		j.Observe(waitingFor(invalidation.PartLease, "refused"))
		waits := `level=WARN msg=waiting source=shop part=lease state=waiting error=refused`
		assert.Equal(t, []string{waits, line, waits}, lines())
	}
}

func TestWhatAnOperatorShouldKnowIsLoggedAndItsRepeatsOnceAMinute(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]invalidation.Event{
		`level=WARN msg="deleting again from the oldest position that the cache remembers" source=shop part=redis reason="older by 7"`: {Kind: invalidation.Replaying, Part: "redis", Err: errors.New("older by 7")},
		`level=WARN msg="redis refuses to delete a key, so it is parked: see invalidator parked" source=shop part=redis parked=3 error="NOPERM no"`: {
			Kind: invalidation.Parked, Part: "redis", Count: 3, Err: errors.New("NOPERM no"),
		},
		`level=WARN msg="no usable position" source=shop part=source reason=evicted`:                                       {Kind: invalidation.Lost, Part: "source", Text: "evicted"},
		`level=WARN msg="keys not known: purging by pattern" source=shop part=source table=shop.users error="ALTER TABLE"`: {Kind: invalidation.Incomplete, Part: "source", Text: "shop.users", Err: errors.New("ALTER TABLE")},
		`level=INFO msg=note source=shop part=source error="disk full" text="3 rows stay"`:                                 {Kind: invalidation.Noted, Part: "source", Text: "3 rows stay", Err: errors.New("disk full")},
	} {
		synctest.Test(t, func(t *testing.T) {
			log, lines := logged(slog.LevelInfo)
			j := newJournal(log, "shop")
			each(30*time.Second, func() { j.Observe(e) })
			assert.Equal(t, []string{want}, lines())
			time.Sleep(time.Minute)
			j.Observe(e)
			assert.Equal(t, []string{want}, lines())
		})
	}
}

func TestWhatIsNoChangeIsNotLogged(t *testing.T) {
	t.Parallel()
	log, lines := logged(slog.LevelDebug)
	j := newJournal(log, "shop")
	j.Observe(invalidation.Event{Kind: invalidation.Gated, Took: time.Second})
	j.Observe(invalidation.Event{Kind: invalidation.Parked, Count: 1}) // fewer than before
	j.Observe(invalidation.Event{Kind: invalidation.Noted + 1})
	assert.Empty(t, lines())
	j.Observe(invalidation.Event{Kind: invalidation.Deleted, Part: "redis", Text: "user:{id}", Count: 3, Found: 2})
	assert.Equal(t, []string{`level=DEBUG msg=deleted source=shop part=redis group=user:{id} keys=3 found=2 took=0s`}, lines())
}

func TestAPartThatFlapsIsLoggedAFewTimesAMinuteAndNotLeftAsWorking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, lines := logged(slog.LevelInfo)
		j := newJournal(log, "shop")
		each(50*time.Second, func() {
			j.Observe(working(invalidation.PartCache))
			j.Observe(waitingFor(invalidation.PartCache, "refused"))
		})
		assert.Len(t, lines(), 2*waitsInAMinute+1, "the last line says that it works")
		each(20*time.Second, func() { j.Observe(waitingFor(invalidation.PartCache, "refused")) })
		assert.Equal(t, []string{`level=WARN msg=waiting source=shop part=redis state=waiting error=refused`}, lines())
		j.Observe(working(invalidation.PartCache))
		assert.Equal(t, []string{`level=INFO msg=working source=shop part=redis state=running`}, lines())
	})
}

func TestWhatRepeatsIsForgottenInTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := recent{}
		for i := range 10 * mostRecent {
			r.isDue(strings.Repeat("x", i%5000), time.Second)
			time.Sleep(time.Millisecond)
		}
		assert.LessOrEqual(t, len(r), 2*mostRecent)
	})
}
