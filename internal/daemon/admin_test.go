package daemon

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// get asks a page without a connection.
func get(t *testing.T, pages *admin, path string) (status int, body string) {
	t.Helper()
	answer := httptest.NewRecorder()
	pages.handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return answer.Code, answer.Body.String()
}

func working(part string) invalidation.Event {
	return invalidation.Event{Kind: invalidation.Working, Part: part}
}

func waitingFor(part, reason string) invalidation.Event {
	return invalidation.Event{Kind: invalidation.Waiting, Part: part, Err: errors.New(reason)}
}

func TestReadyMeansThatEverySourceWorksAndMakesProgress(t *testing.T) {
	t.Parallel()
	advanced := invalidation.Event{Kind: invalidation.Advanced, Part: invalidation.PartSource}
	cases := map[string]struct {
		happens func(h *health)
		status  int
		line    string
	}{
		"nothing yet": {func(*health) {}, 503, "shop: starting\n"},
		"advanced":    {func(h *health) { h.Observe(advanced) }, 200, "shop: running\n"},
		"deletes": {func(h *health) {
			h.Observe(working(invalidation.PartSource))
			h.Observe(invalidation.Event{Kind: invalidation.Deleted, Part: invalidation.PartCache, Count: 1})
		}, 200, "shop: running\n"},
		"a heartbeat is no progress": {func(h *health) { h.answered() }, 503, "shop: running: no progress yet\n"},
		"idle for 10 s": {func(h *health) {
			h.Observe(advanced)
			time.Sleep(10 * time.Second)
		}, 200, "shop: running\n"},
		"silent for longer": {func(h *health) {
			h.Observe(advanced)
			time.Sleep(12 * time.Second)
		}, 503, "shop: running: no progress for 12s\n"},
		"connected, and no progress ever": {func(h *health) {
			h.Observe(working(invalidation.PartSource))
			time.Sleep(time.Second)
		}, 503, "shop: running: no progress yet\n"},
		"redis is away": {func(h *health) {
			h.Observe(advanced)
			h.Observe(waitingFor(invalidation.PartCache, "connection refused"))
		}, 503, "shop: waiting: redis: connection refused\n"},
		"redis is back": {func(h *health) {
			h.Observe(waitingFor(invalidation.PartCache, "connection refused"))
			h.Observe(working(invalidation.PartCache))
			h.Observe(advanced)
		}, 200, "shop: running\n"},
		"the gate's trouble ends with the source's next progress": {func(h *health) {
			h.Observe(waitingFor(invalidation.PartGate, "timeout"))
			h.Observe(advanced)
		}, 200, "shop: running\n"},
		"redis answers while the source is away": {func(h *health) {
			h.Observe(waitingFor(invalidation.PartSource, "no route to host"))
			h.answered()
		}, 503, "shop: waiting: source: no route to host\n"},
		"purging": {func(h *health) {
			h.Observe(advanced)
			h.Observe(invalidation.Event{Kind: invalidation.PurgeStarted, Text: "user:*", Count: 1000})
			h.Observe(invalidation.Event{Kind: invalidation.PurgeProgress, Text: "user:*", Count: 30})
		}, 503, "shop: purging: user:*: 30 keys deleted so far\n"},
		"purged": {func(h *health) {
			h.Observe(invalidation.Event{Kind: invalidation.PurgeStarted, Text: "user:*", Count: 1000})
			h.Observe(invalidation.Event{Kind: invalidation.PurgeDone, Text: "user:*", Count: 30})
			h.Observe(advanced)
		}, 200, "shop: running\n"},
		"started again": {func(h *health) {
			h.Observe(advanced)
			h.stopped(errors.New("binlog: unexpected event"))
		}, 503, "shop: waiting: binlog: unexpected event\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				shop, other := newHealth("shop", "mysql"), newHealth("other", "postgres")
				pages := &admin{sources: []*health{shop, other}}
				pages.alive.Store(true)
				c.happens(shop)
				other.Observe(advanced)
				status, body := get(t, pages, "/readyz")
				assert.Equal(t, c.status, status)
				assert.Equal(t, c.line+"other: running\n", body)
			})
		})
	}
}

func TestHealthyMeansThatTheSupervisorsRun(t *testing.T) {
	t.Parallel()
	pages := &admin{sources: []*health{newHealth("shop", "mysql")}}
	status, _ := get(t, pages, "/healthz")
	assert.Equal(t, 503, status)
	pages.alive.Store(true)
	status, _ = get(t, pages, "/healthz")
	assert.Equal(t, 200, status, "although nothing is ready")
}

func TestTheStatusPageCountsAndHidesSecrets(t *testing.T) {
	t.Parallel()
	h := newWatch(slog.New(slog.DiscardHandler), newRedactor("hunter2"), "shop", "mysql")
	h.Observe(invalidation.Event{Kind: invalidation.Deleted, Count: 3})
	h.Observe(invalidation.Event{Kind: invalidation.Deleted, Count: 4})
	h.Observe(invalidation.Event{Kind: invalidation.PurgeDone, Text: "user:*", Count: 5})
	h.Observe(invalidation.Event{Kind: invalidation.Advanced, Text: "uuid:1-7", At: time.Unix(1, 0).UTC()})
	h.Observe(invalidation.Event{Kind: invalidation.Advanced})
	h.Observe(waitingFor(invalidation.PartSource, "dial repl:hunter2@db"))
	_, body := get(t, &admin{sources: []*health{h.health}}, "/status")
	assert.NotContains(t, body, "hunter2")
	var page struct{ Sources []map[string]any }
	require.NoError(t, json.Unmarshal([]byte(body), &page))
	got := page.Sources[0]
	delete(got, "last_progress")
	assert.Equal(t, map[string]any{
		"name": "shop", "kind": "mysql", "state": "waiting", "reason": "source: dial repl:***@db", "ready": false,
		"position": "uuid:1-7", "committed": "1970-01-01T00:00:01Z", "deleted": 7.0, "purged": 5.0, "restarts": 0.0, "incomplete": 0.0,
	}, got)
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
