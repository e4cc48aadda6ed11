package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// byHand is an event of a purge that an operator asked for.
func byHand(kind invalidation.Kind, pattern string, count, scanned int) invalidation.Event {
	e := purging(kind, pattern, count, scanned)
	e.ByHand = true
	return e
}

// beginsAnew calls Positions as the source does.
func (c *commanded) beginsAnew(t *testing.T) {
	t.Helper()
	_, err := resetSink{c.cache, c.member.feed}.Positions(t.Context())
	require.NoError(t, err)
}

func TestAPurgeGoesOnWhereNobodyFollowsIt(t *testing.T) {
	t.Parallel()
	pages := newCommanded(t)
	ctx, leave := context.WithCancel(t.Context())
	asked := make(chan []string, 3)
	pages.cache.purged = func(patterns []string) error { asked <- patterns; return nil }
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/purge", strings.NewReader(`{"patterns": ["order:*", "user:*"]}`))
		pages.handler(true).ServeHTTP(httptest.NewRecorder(), request)
	}()
	assert.Equal(t, []string{"order:*", "user:*"}, <-asked)
	leave()
	<-gone
	pages.happens(1, byHand(invalidation.PurgeStarted, "order:*", 10, 0))
	pages.happens(1, byHand(invalidation.PurgeDone, "order:*", 1, 10))
	pages.happens(1, byHand(invalidation.PurgeStarted, "user:*", 10, 0))
	pages.beginsAnew(t)
	assert.Equal(t, []string{"user:*"}, <-asked, "what is not done")
	pages.happens(2, byHand(invalidation.PurgeDone, "user:*", 1, 10))
	pages.beginsAnew(t)
	assert.Equal(t, []string{"user:*"}, <-asked, "it began too early")
	pages.happens(3, byHand(invalidation.PurgeStarted, "user:*", 10, 0))
	pages.happens(3, byHand(invalidation.PurgeDone, "user:*", 1, 10))
	pages.beginsAnew(t)
	assert.Empty(t, asked)
	assert.Empty(t, pages.member.feed.purges, "nothing is kept of it")
}

func TestAPurgeThatTheCacheDidNotTakeIsNotOwed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fails error
		owed  int
	}{
		"it is refused":             {errors.New("login refused"), 0},
		"the Sink begins anew next": {invalidation.ErrResume, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				pages := newCommanded(t)
				pages.cache.purged = func([]string) error { return c.fails }
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				require.Error(t, purgeSource(ctx, pages.member, []string{"user:*"}, func(Progress) {}))
				assert.Len(t, pages.member.feed.owed(), c.owed)
			})
		})
	}
}

func TestAPurgeOfASourceThatEndsIsGivenUpAloud(t *testing.T) {
	t.Parallel()
	const warns = `level=WARN msg="a purge by hand is not done, and not remembered: ask for it again" source=shop pattern=%s reason="%s"`
	for name, c := range map[string]struct {
		ends   func(*testing.T, *member)
		owed   []string
		reason string
	}{
		"another one leads": {func(_ *testing.T, m *member) {
			m.feed.observe(1, leads(invalidation.Standby, "host-b/1"))
		}, nil, "host-b/1 leads now: ask that one again"},
		"it is removed":  {func(_ *testing.T, m *member) { m.stop(errRemoved); <-m.ended }, nil, errEnded.Error()},
		"it is replaced": {func(_ *testing.T, m *member) { m.stop(errReplaced); <-m.ended }, []string{"user:*"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, lines := logged(slog.LevelWarn)
			s := supervised(runFunc(untilDone))
			s.feed = newFeed(newWatch(log, newRedactor(), "shop", "mysql").log)
			m := &member{supervisor: s}
			newFleet(log).start(t.Context(), m)
			t.Cleanup(func() { m.stop(nil); <-m.ended })
			p := newPurgeProgress([]string{"user:*"})
			s.feed.owe(p)
			c.ends(t, m)
			assert.Equal(t, c.owed, s.feed.owed())
			if c.reason == "" {
				assert.Empty(t, lines())
				return
			}
			assert.Equal(t, []string{fmt.Sprintf(warns, "user:*", c.reason)}, lines())
			require.EqualError(t, follow(t.Context(), nil, p.news, p.now, func(Progress) {}), c.reason)
		})
	}
}

func TestAReloadPassesWhatIsOwedOnToTheSourceThatTakesThePlace(t *testing.T) {
	t.Parallel()
	const dropped = "a purge by hand is not done, and not remembered"
	for name, c := range map[string]struct {
		change []string
		owed   []string
	}{
		"another rule":      {[]string{"order:", "orders:"}, []string{"em:*"}},
		"another rate":      {[]string{"namespace: shop", "namespace: shop\npurge_rate: 5"}, []string{"em:*"}},
		"another namespace": {[]string{"namespace: shop", "namespace: mall"}, nil},
		"no such source":    {[]string{"name: orders", "name: sales"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReloaded(t)
			r.fleet.byName()["orders"].feed.owe(newPurgeProgress([]string{"em:*"}))
			_, err := r.becomes(c.change...)
			require.NoError(t, err)
			assert.Equal(t, c.owed, r.fleet.all()[0].feed.owed())
			assert.Equal(t, c.owed == nil, strings.Contains(strings.Join(r.lines(), "\n"), dropped))
		})
	}
}

func TestNoCommitWaitsForAPurgeByHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHealth("shop", "mysql")
		h.Observe(byHand(invalidation.PurgeStarted, "user:*", 100, 0))
		h.Observe(idle())
		time.Sleep(2 * time.Second)
		h.Observe(byHand(invalidation.PurgeProgress, "user:*", 3, 10))
		s := h.snapshot()
		assert.Equal(t, []any{Purging, true, "user:*: 3 keys deleted, 10 of 100 looked at"}, []any{s.State, s.Ready, s.Reason}, "also where it runs from the start on")
		assert.Zero(t, *s.OldestUndeleted)
		assert.Equal(t, []Purge{{Pattern: "user:*", Keys: 100, Scanned: 10, Deleted: 3, ByHand: true}}, s.Purges)

		h.asked(0, []string{"user:*"})
		h.Observe(byHand(invalidation.PurgeDone, "user:*", 5, 100))
		s = h.snapshot()
		assert.Equal(t, []Purge{{Pattern: "user:*"}}, s.Purges, "that of the source is still owed")
		assert.Equal(t, 5, s.Purged)
		assert.Positive(t, *s.OldestUndeleted)
	})
}
