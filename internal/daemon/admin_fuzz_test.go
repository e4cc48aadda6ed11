package daemon

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// FuzzAdmin sends anything to the admin server: no handler panics, nothing is
// changed without the token, and no secret comes back.
func FuzzAdmin(f *testing.F) {
	for _, path := range []string{"/healthz", "/readyz", "/status", "/metrics", "/parked", "/parked?show_keys=true", "/reload", "/replay", "/purge", "/parked/retry", "/", "//", "/%2e%2e/status"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodHead, http.MethodOptions} {
			f.Add(method, path, `{"patterns": ["user:*"]}`, "", "")
		}
	}
	for _, body := range []string{`{"since": "1m"}`, `{"since": "1m", "source": "shop"}`, `{"from": "x"}`, `{"all": true}`, `{"keys": ["user:1"]}`, `{`, `[]`, `null`, `{"patterns": [null]}`, `{"patterns": ["[", "\\", "a[^"]}`} {
		for _, path := range []string{"/replay", "/purge", "/parked/retry", "/reload"} {
			f.Add(http.MethodPost, path, body, "Authorization", "Bearer "+testToken)
			f.Add(http.MethodPost, path, body, "Authorization", "Bearer wrong")
			f.Add(http.MethodPost, path, body, "Authorization", testToken)
			f.Add(http.MethodPost, path, body, "Sec-Fetch-Site", "cross-site")
			f.Add(http.MethodPost, path, body, "X-Http-Method-Override", "GET")
		}
	}
	f.Fuzz(func(t *testing.T, method, path, body, header, value string) {
		if len(method) > 20 || !isToken(method) || !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " \x00\r\n\x7f") {
			t.Skip("no request that a server would parse")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, method, "http://invalidator"+path, strings.NewReader(body))
		if err != nil {
			t.Skip("no request")
		}
		request.Header[http.CanonicalHeaderKey(header)] = []string{value}
		pages := fuzzed(t)
		answer := httptest.NewRecorder()
		pages.handler(false).ServeHTTP(answer, request)

		guarded := request.Header.Get("Authorization")
		scheme, token, _ := strings.Cut(guarded, " ")
		allowed := strings.EqualFold(scheme, "bearer") && token == testToken
		if changes := pages.cache.noted(); len(changes) > 0 && (!allowed || method != http.MethodPost) {
			t.Errorf("%s %s with %q changed: %v", method, path, guarded, changes)
		}
		if answer.Code == http.StatusInternalServerError {
			t.Errorf("%s %s: %s", method, path, answer.Body)
		}
		if text := answer.Body.String(); strings.Contains(text, "hunter2") || !allowed && strings.Contains(text, "ada@x") {
			t.Errorf("%s %s shows a secret: %s", method, path, text)
		}
	})
}

func isToken(method string) bool {
	return method != "" && !strings.ContainsFunc(method, func(r rune) bool { return r < 'A' || r > 'Z' })
}

// fuzzed returns pages whose source finishes at once all that it is asked for.
// What it says of itself is full of secrets.
func fuzzed(t *testing.T) *commanded {
	t.Helper()
	pages := newCommanded(t)
	pages.member.watch.redact = newRedactor("hunter2")
	pages.metrics = newMetrics("v", "r").handler()
	pages.happens(1, waitingFor(invalidation.PartSource, "login hunter2 refused"))
	pages.cache.parked = []redissink.Parked{{Key: "user:ada@x", Error: "NOPERM user:ada@x"}}
	pages.cache.rewound = func() {
		go pages.happens(2, invalidation.Event{Kind: invalidation.Advanced, Idle: true})
	}
	pages.cache.purged = func(patterns []string) error {
		go func() {
			for _, pattern := range patterns {
				pages.purges(pattern, 1)
			}
		}()
		return nil
	}
	reloads := make(chan reloadRequest)
	pages.reloads = reloads
	go func() {
		select {
		case r := <-reloads:
			pages.cache.note("reload")
			r.answer <- reloadAnswer{}
		case <-t.Context().Done():
		}
	}()
	return pages
}
