package daemon

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

var updateMetrics = flag.Bool("update-metrics", false, "write testdata/metrics.txt")

// exposition is what Prometheus gets, without what the Go runtime and the
// process add and without the version of Go.
func exposition(t *testing.T, m *metrics) string {
	t.Helper()
	answer := httptest.NewRecorder()
	m.handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, answer.Code)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	var kept strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(string(body))); lines.Scan(); {
		name := strings.TrimPrefix(strings.TrimPrefix(lines.Text(), "# HELP "), "# TYPE ")
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			kept.WriteString(lines.Text() + "\n")
		}
	}
	before, after, _ := strings.Cut(kept.String(), `goversion="`)
	_, after, _ = strings.Cut(after, `"`)
	return before + `goversion="any"` + after
}

// metered is the watch of a source whose metrics are m.
func metered(m *metrics, name string, groups ...string) watch {
	return newWatch(slog.New(slog.DiscardHandler), newRedactor(), name, "mysql").metered(m, groups)
}

// eventful is what a leader and a standby have been through.
func eventful(m *metrics) {
	shop, standby := metered(m, "shop", "user:{id}"), metered(m, "orders", "order:*")
	for _, e := range []invalidation.Event{
		leads(invalidation.Leading, "a"),
		{Kind: invalidation.Lost, Part: "source", Text: "none"},
		purging(invalidation.PurgeStarted, "user:*", 70, 0),
		purging(invalidation.PurgeProgress, "user:*", 6, 7),
		waitingFor("redis", "refused"),
		purging(invalidation.PurgeStarted, "user:*", 70, 0),
		purging(invalidation.PurgeProgress, "user:*", 10, 20),
		purging(invalidation.PurgeDone, "user:*", 18, 90),
		purging(invalidation.PurgeStarted, "order:*", 70, 0),
		purging(invalidation.PurgeProgress, "order:*", 1, 70),
		{Kind: invalidation.Deleted, Part: "redis", Text: "user:{id}", Count: 5, Found: 3},
		{Kind: invalidation.Deleted, Part: "redis", Text: "unknown", Count: 2, Found: 2},
		{Kind: invalidation.Gated, Part: "gate", Took: 3 * time.Millisecond},
		{Kind: invalidation.Advanced, Part: "source", Count: 3, Keys: 7, Coalesced: 2, At: time.Now().Add(-20 * time.Millisecond), Oldest: time.Now().Add(-2 * time.Second)},
		{Kind: invalidation.Incomplete, Part: "source", Text: "shop.users"},
		{Kind: invalidation.Parked, Part: "redis", Count: 1, Keys: 1, Err: errors.New("NOPERM")},
		{Kind: invalidation.Parked, Part: "redis", Count: 4, Keys: 3, Err: errors.New("NOPERM")},
		{Kind: invalidation.Parked, Part: "redis", Count: 1},
		{Kind: invalidation.Replaying, Part: "redis", Err: errors.New("older")},
		{Kind: invalidation.Replaying, Part: "redis", Err: fmt.Errorf("%w: %w", redissink.ErrReplayAsked, invalidation.ErrResume)},
		{Kind: invalidation.Pruned, Part: "source", Count: 100},
		{Kind: invalidation.Noted, Part: "source", Text: "hm"},
		waitingFor("redis 127.0.0.1:7002", "refused"),
	} {
		shop.Observe(e)
	}
	shop.SetLag(12, 3456)
	standby.stopped(invalidation.ErrResume)
	standby.stopped(fmt.Errorf("apply: %w: %w", redissink.ErrReplayAsked, invalidation.ErrResume))
	standby.begin()
	standby.called(0)
	standby.SetLag(-1, -1)
	standby.Observe(leads(invalidation.Standby, "b"))
	m.reloaded(nil)
	m.reloaded(errors.New("line 7"))
	time.Sleep(time.Second)
}

func TestTheExpositionIsWhatDashboardsAreMadeFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMetrics("v1.2.3", "abcdef")
		eventful(m)
		got := exposition(t, m)
		if *updateMetrics {
			require.NoError(t, os.WriteFile("testdata/metrics.txt", []byte(got), 0o600))
		}
		want, err := os.ReadFile("testdata/metrics.txt")
		require.NoError(t, err)
		assert.Equal(t, string(want), got, "if the change is meant: go test -run Exposition -update-metrics, and tell users")
	})
}

func TestTheNamesOfMetricsAreConventional(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMetrics("v1.2.3", "abcdef")
		eventful(m)
		problems, err := testutil.GatherAndLint(m.registry)
		require.NoError(t, err)
		assert.Empty(t, problems)
	})
}

func TestOpenMetricsIsServedToThoseWhoAskForIt(t *testing.T) {
	t.Parallel()
	m := newMetrics("v1.2.3", "abcdef")
	metered(m, "shop")
	answer := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	m.handler().ServeHTTP(answer, request)
	assert.Equal(t, http.StatusOK, answer.Code)
	assert.True(t, strings.HasSuffix(answer.Body.String(), "# EOF\n"), "all of it was served")
	assert.Contains(t, answer.Body.String(), "go_goroutines")
	assert.Contains(t, answer.Body.String(), "process_start_time_seconds")
}

// series returns the lines of one metric.
func series(t *testing.T, m *metrics, name string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(exposition(t, m)) {
		if strings.HasPrefix(line, "invalidator_"+name+"{") {
			found = append(found, strings.TrimSpace(strings.TrimPrefix(line, "invalidator_"+name)))
		}
	}
	return found
}

func TestTheNumberOfSeriesIsBoundedByTheConfiguration(t *testing.T) {
	t.Parallel()
	m := newMetrics("", "")
	shop := metered(m, "shop", "user:{id}")
	count := func() int { return strings.Count(exposition(t, m), "\n") }
	shop.Observe(idle())
	before := count()
	for _, text := range []string{"a", "b", "c"} {
		shop.Observe(waitingFor("redis "+text, text))
		shop.Observe(waitingFor(text, text))
		shop.Observe(purging(invalidation.PurgeStarted, text, 1, 1))
		shop.Observe(invalidation.Event{Kind: invalidation.Deleted, Text: text, Count: 1})
		shop.Observe(invalidation.Event{Kind: invalidation.Incomplete, Text: text})
		shop.Observe(leads(invalidation.Leading, text))
	}
	assert.Equal(t, before, count())
	assert.Contains(t, series(t, m, "deleted_keys_total"), `{group="other",result="absent",source="shop"} 3`)
}

func TestASourceThatIsReplacedGoesOnCountingAndOneThatIsGoneIsForgotten(t *testing.T) {
	t.Parallel()
	m := newMetrics("", "")
	first := metered(m, "shop", "user:{id}")
	first.Observe(invalidation.Event{Kind: invalidation.Advanced, Count: 3})
	second := metered(m, "shop", "account:{id}")
	second.Observe(invalidation.Event{Kind: invalidation.Advanced, Count: 4})
	m.forget(first.health)
	assert.Equal(t, []string{`{source="shop"} 7`}, series(t, m, "transactions_total"))
	assert.Equal(t, []string{`{source="shop"} 1`}, series(t, m, "ready"))
	m.forget(second.health)
	assert.NotContains(t, exposition(t, m), "shop")
}

func TestATakeoverIsWhereItDidNotLeadBefore(t *testing.T) {
	t.Parallel()
	m := newMetrics("", "")
	shop := metered(m, "shop")
	takeovers := func(want string) {
		t.Helper()
		assert.Equal(t, []string{`{source="shop"} ` + want}, series(t, m, "takeovers_total"))
	}
	shop.Observe(leads(invalidation.Leading, "a"))
	shop.stopped(invalidation.ErrResume)
	shop.begin().Observe(leads(invalidation.Leading, "a"))
	takeovers("1")
	replaced := metered(m, "shop")
	replaced.Observe(leads(invalidation.Leading, "a"))
	m.forget(shop.health)
	takeovers("1")
	replaced.Observe(leads(invalidation.Standby, "b"))
	replaced.Observe(leads(invalidation.Leading, "a"))
	takeovers("2")
	(&supervisor{watch: replaced}).release(t.Context(), &fakeCache{}) // as for another namespace
	replaced.Observe(leads(invalidation.Leading, "a"))
	takeovers("3")
	m.forget(replaced.health)
	metered(m, "shop").Observe(leads(invalidation.Leading, "a"))
	takeovers("1")
}

func TestASourceThatIsReplacedOwesWhatItOwed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMetrics("", "")
		first := metered(m, "shop")
		first.asked(0, []string{"user:*"})
		time.Sleep(time.Hour)
		second := metered(m, "shop")
		assert.Equal(t, []string{`{source="shop"} 3600`}, series(t, m, "oldest_undeleted_commit_age_seconds"))
		second.Observe(idle())
		assert.Equal(t, []string{`{source="shop"} 0`}, series(t, m, "oldest_undeleted_commit_age_seconds"))
	})
}

func TestWhatGoesWrongIsSeenAtTheNextScrape(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMetrics("", "")
		shop := metered(m, "shop")
		shop.Observe(leads(invalidation.Leading, "a"))
		shop.Observe(idle())
		assert.Equal(t, []string{`{source="shop"} 0`}, series(t, m, "oldest_undeleted_commit_age_seconds"))
		assert.Equal(t, []string{`{source="shop"} 1`}, series(t, m, "leader"))
		shop.Observe(waitingFor(invalidation.PartLease, "refused"))
		time.Sleep(20 * time.Second)
		assert.Equal(t, []string{`{source="shop"} 20`}, series(t, m, "oldest_undeleted_commit_age_seconds"))
		assert.Equal(t, []string{`{source="shop"} 0`}, series(t, m, "leader"))
		assert.Equal(t, []string{`{source="shop"} 0`}, series(t, m, "ready"))
		assert.Contains(t, series(t, m, "part_working"), `{part="lease",source="shop"} 0`)
		assert.Contains(t, series(t, m, "part_working"), `{part="redis",source="shop"} 1`)
		time.Sleep(20 * time.Second)
		assert.Contains(t, series(t, m, "source_state"), `{source="shop",state="wedged"} 1`)
		assert.Equal(t, []string{`{source="shop"} 40`}, series(t, m, "oldest_undeleted_commit_age_seconds"))
	})
}

func TestTheGroupsAreThoseOfTheConfiguration(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"user:{id}", "user:email:{email}"}, groupNames(Source{Rules: []Rule{{Keys: []string{"user:{id}", "user:email:{email}"}}}}))
	assert.Equal(t, []string{"order:*"}, groupNames(Source{Purge: []string{"order:*"}}))
}
