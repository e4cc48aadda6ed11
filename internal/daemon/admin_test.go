package daemon

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// pagesOf returns the pages of sources that do not run.
func pagesOf(watches ...watch) *admin {
	members := make([]*member, len(watches))
	for i, w := range watches {
		members[i] = &member{supervisor: &supervisor{watch: w, feed: newFeed(slog.New(slog.DiscardHandler))}, source: Source{Name: w.snapshot().Name}}
	}
	return &admin{members: func() []*member { return members }, guard: newGuard(HTTP{})}
}

// get asks a page without a connection.
func get(t *testing.T, pages *admin, path string) (status int, body string) {
	t.Helper()
	answer := httptest.NewRecorder()
	pages.handler(false).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return answer.Code, answer.Body.String()
}

func TestHealthyMeansThatTheSupervisorsRun(t *testing.T) {
	t.Parallel()
	pages := pagesOf(silentWatch("shop"))
	status, _ := get(t, pages, "/healthz")
	assert.Equal(t, 503, status)
	pages.alive.Store(true)
	status, _ = get(t, pages, "/healthz")
	assert.Equal(t, 200, status, "although nothing is ready")
}

func TestTheStatusPageHidesSecrets(t *testing.T) {
	t.Parallel()
	h := newWatch(slog.New(slog.DiscardHandler), newRedactor("hunter2"), "shop", "mysql")
	h.Observe(invalidation.Event{Kind: invalidation.Deleted, Count: 3})
	h.Observe(waitingFor(invalidation.PartSource, "dial repl:hunter2@db"))
	_, body := get(t, pagesOf(h), "/status")
	assert.NotContains(t, body, "hunter2")
	var page struct{ Sources []Status }
	require.NoError(t, json.Unmarshal([]byte(body), &page))
	require.Len(t, page.Sources, 1)
	assert.Equal(t, "source: dial repl:***@db", page.Sources[0].Reason)
	assert.Equal(t, 3, page.Sources[0].Deleted)
}

func TestATakenAddressIsOneLineWithARemedy(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	address := taken.Addr().String()
	err = Run(t.Context(), Config{HTTP: HTTP{Listen: address}}, Options{})
	require.EqualError(t, err, "http.listen: the address "+address+" is taken: is another invalidator running? stop it, or set http.listen to another port")
}

// The pages are served before the sources are started.
func TestNoSourcesAreNotReady(t *testing.T) {
	t.Parallel()
	pages := &admin{members: func() []*member { return nil }, guard: newGuard(HTTP{})}
	pages.alive.Store(true)
	answer := httptest.NewRecorder()
	pages.readyz(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	assert.Equal(t, http.StatusServiceUnavailable, answer.Code)
}

func TestReadinessIsThereAsJSON(t *testing.T) {
	t.Parallel()
	ready, waits := silentWatch("shop"), silentWatch("orders")
	ready.Observe(idle())
	waits.Observe(waitingFor(invalidation.PartCache, "refused"))
	pages := pagesOf(ready, waits)
	pages.alive.Store(true)
	status, text := get(t, pages, "/readyz?json=true")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.JSONEq(t, `{"ready": false, "sources": [
		{"name": "shop", "state": "running", "ready": true},
		{"name": "orders", "state": "waiting", "reason": "redis: refused", "ready": false}]}`, text)
	waits.Observe(working(invalidation.PartCache))
	waits.Observe(idle())
	status, text = get(t, pages, "/readyz?json=1")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, text, `"ready": true,`)
	status, text = get(t, pages, "/readyz")
	assert.Equal(t, []any{http.StatusOK, "shop: running\norders: running\n"}, []any{status, text})
}
