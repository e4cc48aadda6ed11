package daemon

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// post sends a command with the token and returns the answer.
func (c *commanded) post(t *testing.T, path, body string) (status int, text string) {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	request.Header.Set("Authorization", "Bearer "+testToken)
	answer := httptest.NewRecorder()
	c.handler(false).ServeHTTP(answer, request)
	return answer.Code, answer.Body.String()
}

// lines decodes a stream.
func lines(t *testing.T, text string) []Progress {
	t.Helper()
	var all []Progress
	for line := range strings.Lines(text) {
		var p Progress
		require.NoError(t, json.Unmarshal([]byte(line), &p), line)
		all = append(all, p)
	}
	return all
}

func TestCommandsNeedTheTokenOrTheSocket(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"POST /reload", "POST /replay", "POST /purge", "POST /parked/retry", "POST /parked/drop", "GET /parked?show_keys=true"} {
		method, path, _ := strings.Cut(path, " ")
		for name, c := range map[string]struct {
			token  string // of the daemon
			header string
			status int
			says   string
		}{
			"no token":            {testToken, "", 401, "the token is missing or wrong"},
			"another token":       {testToken, "Bearer " + testToken + "x", 401, "the token is missing or wrong"},
			"another scheme":      {testToken, "Basic " + testToken, 401, "the token is missing or wrong"},
			"none is set":         {"", "Bearer ", 403, "set http.token_file"},
			"none is set or sent": {"", "", 403, "set http.token_file"},
		} {
			t.Run(path+" "+name, func(t *testing.T) {
				t.Parallel()
				pages := newCommanded(t)
				pages.guard.set(NewSecret(c.token))
				request := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("{}"))
				if c.header != "" {
					request.Header.Set("Authorization", c.header)
				}
				answer := httptest.NewRecorder()
				pages.handler(false).ServeHTTP(answer, request)
				assert.Equal(t, c.status, answer.Code)
				assert.Contains(t, answer.Body.String(), c.says)
				assert.NotContains(t, answer.Body.String(), "hunter2")
				assert.Empty(t, pages.cache.noted())
			})
		}
	}
	pages := newCommanded(t)
	pages.guard.set(Secret{})
	answer := httptest.NewRecorder()
	pages.handler(true).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/parked/retry", strings.NewReader("{}")))
	assert.Equal(t, 200, answer.Code, "over the socket")
}

func TestABrowserOfAnotherPageChangesNothing(t *testing.T) {
	t.Parallel()
	pages := newCommanded(t)
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/parked/retry", strings.NewReader("{}"))
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	answer := httptest.NewRecorder()
	pages.handler(true).ServeHTTP(answer, request)
	assert.Equal(t, 403, answer.Code)
	assert.Empty(t, pages.cache.noted())
}

func TestBadCommandsAreRefusedWithARemedy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path, body string
		status     int
		says       string
	}{
		"no JSON":             {"/replay", "x", 400, "not the JSON object"},
		"an unknown field":    {"/replay", `{"from_then": "1m"}`, 400, `unknown field \"from_then\"`},
		"two objects":         {"/purge", `{"all": true} {}`, 400, "something follows"},
		"a long body":         {"/purge", `{"patterns": ["` + strings.Repeat("x", longestBody) + `"]}`, 413, "longer than"},
		"nothing to replay":   {"/replay", "", 400, "say where the replay begins"},
		"both":                {"/replay", `{"since": "1m", "from": "x"}`, 400, "say where the replay begins"},
		"no duration":         {"/replay", `{"since": "yesterday"}`, 400, "not a positive duration"},
		"a negative one":      {"/replay", `{"since": "-1m"}`, 400, "not a positive duration"},
		"an unknown source":   {"/replay", `{"since": "1m", "source": "shpo"}`, 404, `there is no source \"shpo\": there is shop`},
		"nothing to purge":    {"/purge", `{}`, 400, "say what to purge"},
		"all and some":        {"/purge", `{"all": true, "patterns": ["user:*"]}`, 400, "say what to purge"},
		"every key":           {"/purge", `{"patterns": ["*"]}`, 400, "does not begin with literal text"},
		"almost every key":    {"/purge", `{"patterns": ["user:*", "[^_]*"]}`, 400, `pattern \"[^_]*\" does not begin with literal text`},
		"an open class":       {"/purge", `{"patterns": ["user:[a*"]}`, 400, "is not closed"},
		"the daemon's own":    {"/purge", `{"patterns": ["inv:position:*"]}`, 400, "the daemon's own keys"},
		"what is not parked":  {"/parked/retry", `{"keys": ["user:9"]}`, 404, "not parked: user:9"},
		"none to drop":        {"/parked/drop", `{"keys": ["user:9"]}`, 404, "not parked: user:9"},
		"a reload with words": {"/reload", `{"file": "/etc/passwd"}`, 400, "unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pages := newCommanded(t)
			status, text := pages.post(t, c.path, c.body)
			assert.Equal(t, c.status, status)
			assert.Contains(t, text, c.says)
			assert.Empty(t, pages.cache.noted())
		})
	}
	status, text := newCommanded(t).post(t, "/replay", `{"from": "nonsense"}`)
	assert.Equal(t, 200, status, "a stream that ends badly")
	assert.Equal(t, `"nonsense" is no position: login ***`, lines(t, text)[0].Error)
}

func TestWhoStandsByNamesTheLeader(t *testing.T) {
	t.Parallel()
	pages := newCommanded(t)
	pages.cache.standby = true
	status, text := pages.post(t, "/replay", `{"since": "1m"}`)
	assert.Equal(t, 503, status)
	assert.Contains(t, text, "source shop does not lead yet")
	pages.happens(1, invalidation.Event{Kind: invalidation.Standby, Part: invalidation.PartLease, Text: "host-b/1"})
	for path, body := range map[string]string{"/replay": `{"since": "1m"}`, "/purge": `{"patterns": ["user:*"]}`, "/parked/retry": "", "/parked/drop": ""} {
		status, text = pages.post(t, path, body)
		assert.Equal(t, 409, status)
		assert.Contains(t, text, "host-b/1 leads: ask that one")
		assert.Contains(t, text, `"leader": "host-b/1"`)
	}
	assert.Empty(t, pages.cache.noted())
}

func TestAReplayEndsWhenWhatWasCommittedBeforeItIsDeleted(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]invalidation.Event{
		"an idle log":    {Kind: invalidation.Advanced, Part: invalidation.PartSource, Idle: true},
		"a later commit": {Kind: invalidation.Advanced, Part: invalidation.PartSource, Count: 1, At: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				pages := newCommanded(t)
				called := time.Now()
				pages.cache.rewound = func() {
					pages.happens(1, last) // of before: no progress
					go func() {
						pages.happens(2, invalidation.Event{Kind: invalidation.Advanced, Count: 1, At: called.Add(-30 * time.Second)})
						pages.happens(2, invalidation.Event{Kind: invalidation.Deleted, Count: 3})
						time.Sleep(time.Second)
						pages.happens(2, waitingFor(invalidation.PartSource, "hunter2 refused"))
						time.Sleep(time.Second)
						pages.happens(2, last)
					}()
				}
				status, text := pages.post(t, "/replay", `{"since": "1m"}`)
				assert.Equal(t, 200, status)
				got := lines(t, text)
				require.GreaterOrEqual(t, len(got), 3, text)
				assert.Equal(t, Progress{Event: ProgressBegun, Source: "shop", From: "stored-1m0s"}, got[0])
				assert.InDelta(t, 0.5, got[1].Done, 0.01)
				end := got[len(got)-1]
				assert.Equal(t, ProgressDone, end.Event)
				assert.Equal(t, 3, end.Deleted)
				assert.InDelta(t, 1, end.Done, 0)
				assert.Equal(t, 2*time.Second, time.Since(called).Truncate(time.Second))
				assert.Equal(t, []string{"rewind to stored-1m0s"}, pages.cache.noted())
			})
		})
	}
}

// What is given may be newer than what is stored, and then it is refused.
func TestAReplayFromAPositionIsComparedWithWhatIsStored(t *testing.T) {
	t.Parallel()
	pages := newCommanded(t)
	pages.cache.rewound = func() {
		go pages.happens(2, invalidation.Event{Kind: invalidation.Advanced, Idle: true})
	}
	_, text := pages.post(t, "/replay", `{"from": "given"}`)
	assert.Equal(t, "given before stored", lines(t, text)[0].From)
	assert.Equal(t, []string{"rewind to given before stored"}, pages.cache.noted())
}

func TestAReplayWaitsForWhatItPurges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pages := newCommanded(t)
		begun := time.Now()
		pages.cache.rewound = func() {
			go func() {
				pages.happens(2, invalidation.Event{Kind: invalidation.PurgeStarted, Text: "user:*", Count: 10})
				pages.happens(2, invalidation.Event{Kind: invalidation.Advanced, Idle: true})
				time.Sleep(5 * time.Second)
				pages.happens(2, invalidation.Event{Kind: invalidation.PurgeDone, Text: "user:*", Count: 10})
			}()
		}
		_, text := pages.post(t, "/replay", `{"since": "1m"}`)
		got := lines(t, text)
		assert.Equal(t, ProgressDone, got[len(got)-1].Event)
		assert.GreaterOrEqual(t, time.Since(begun), 5*time.Second)
	})
}

func TestAReplayEndsBadlyWhenAnotherLeadsOrTheDaemonStops(t *testing.T) {
	t.Parallel()
	t.Run("another leads", func(t *testing.T) {
		t.Parallel()
		pages := newCommanded(t)
		pages.cache.rewound = func() {
			go pages.happens(2, invalidation.Event{Kind: invalidation.Standby, Text: "host-b/1"})
		}
		_, text := pages.post(t, "/replay", `{"since": "1m"}`)
		got := lines(t, text)
		assert.Equal(t, Progress{Event: ProgressFailed, Source: "shop", Error: "host-b/1 leads now, and goes on with the replay", Leader: "host-b/1"}, got[len(got)-1])
	})
	t.Run("the daemon stops", func(t *testing.T) {
		t.Parallel()
		pages := newCommanded(t)
		stopping := make(chan struct{})
		pages.stopping = stopping
		pages.cache.rewound = func() { close(stopping) }
		_, text := pages.post(t, "/replay", `{"since": "1m"}`)
		got := lines(t, text)
		assert.Equal(t, "the daemon stops", got[len(got)-1].Error)
	})
	t.Run("the source is removed", func(t *testing.T) {
		t.Parallel()
		pages := newCommanded(t)
		pages.cache.rewound = func() { close(pages.member.ended) }
		_, text := pages.post(t, "/replay", `{"since": "1m"}`)
		got := lines(t, text)
		assert.Equal(t, "the source was stopped before it was done", got[len(got)-1].Error)
	})
}

// purges reports a whole purge.
func (c *commanded) purges(pattern string, deleted int) {
	c.happens(1, invalidation.Event{Kind: invalidation.PurgeStarted, Text: pattern, Count: 1000})
	c.happens(1, invalidation.Event{Kind: invalidation.PurgeProgress, Text: pattern, Count: 1, Scanned: 500})
	c.happens(1, invalidation.Event{Kind: invalidation.PurgeDone, Text: pattern, Count: deleted, Scanned: 1000})
}

func TestAPurgeIsFollowedToItsEnd(t *testing.T) {
	t.Parallel()
	pages := newCommanded(t)
	pages.cache.purged = func(patterns []string) error {
		go func() {
			for i, pattern := range patterns {
				pages.purges(pattern, 10*(i+1))
			}
		}()
		return nil
	}
	status, text := pages.post(t, "/purge", `{"all": true}`)
	assert.Equal(t, 200, status)
	got := lines(t, text)
	end := got[len(got)-1]
	assert.Equal(t, []any{ProgressDone, 30, 1.0}, []any{end.Event, end.Deleted, end.Done})
	assert.Equal(t, []string{"purge"}, pages.cache.noted())
}

func TestAPurgeThatBeganBeforeIsNotTheOneAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pages := newCommanded(t)
		pages.happens(1, invalidation.Event{Kind: invalidation.PurgeStarted, Text: "user:*", Count: 1000})
		pages.cache.purged = func([]string) error {
			go func() {
				pages.happens(1, invalidation.Event{Kind: invalidation.PurgeDone, Text: "user:*", Count: 7})
				time.Sleep(time.Minute)
				pages.purges("user:*", 9)
			}()
			return nil
		}
		begun := time.Now()
		_, text := pages.post(t, "/purge", `{"patterns": ["user:*", "user:*"]}`)
		got := lines(t, text)
		assert.Equal(t, 9, got[len(got)-1].Deleted)
		assert.GreaterOrEqual(t, time.Since(begun), time.Minute)
	})
}

func TestAPurgeThatTheSinkDroppedIsAskedForAgain(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]error{"after it was taken": nil, "before": invalidation.ErrResume} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				pages := newCommanded(t)
				asked := 0
				pages.cache.purged = func([]string) error {
					asked++
					if asked == 1 {
						go func() {
							pages.happens(1, invalidation.Event{Kind: invalidation.PurgeStarted, Text: "user:*", Count: 1000})
							time.Sleep(time.Second)
							_, _ = resetSink{pages.cache, pages.member.feed}.Positions(t.Context())
						}()
						return first
					}
					go pages.purges("user:*", 9)
					return nil
				}
				_, text := pages.post(t, "/purge", `{"patterns": ["user:*"]}`)
				got := lines(t, text)
				assert.Equal(t, []any{ProgressDone, 9}, []any{got[len(got)-1].Event, got[len(got)-1].Deleted})
			})
		})
	}
}

func TestParkedKeysAreMaskedUnlessTheGuardIsPassed(t *testing.T) {
	t.Parallel()
	pages := newCommanded(t)
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	pages.cache.parked = []redissink.Parked{
		{Key: "user:ada@x", Error: "NOPERM user:ada@x", Since: since},
		{Key: "order:1", Error: "NOPERM", Since: since},
	}
	pages.cache.stuck = []string{"order:1"}
	status, text := get(t, pages.admin, "/parked")
	assert.Equal(t, 200, status)
	assert.NotContains(t, text, "ada@x")
	assert.Contains(t, text, `"error": "NOPERM ***"`)
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/parked?show_keys=true", nil)
	request.Header.Set("Authorization", "Bearer "+testToken)
	answer := httptest.NewRecorder()
	pages.handler(false).ServeHTTP(answer, request)
	assert.Contains(t, answer.Body.String(), "user:ada@x")

	status, text = pages.post(t, "/parked/retry", `{"keys": ["user:ada@x"]}`)
	assert.Equal(t, 200, status)
	assert.Contains(t, text, `"deleted": 1`)
	status, text = pages.post(t, "/parked/retry", ``)
	assert.Equal(t, 200, status)
	assert.Contains(t, text, `"deleted": 0`)
	assert.Contains(t, text, `"source": "shop"`, "what stays is listed")
	assert.Contains(t, text, `"left": 1`)
	pages.member.spec.showKeys = true
	_, text = get(t, pages.admin, "/parked")
	assert.Contains(t, text, "order:1")

	status, text = pages.post(t, "/parked/drop", `{"keys": ["order:1"]}`)
	assert.Equal(t, 200, status)
	assert.JSONEq(t, `{"parked": [], "deleted": 0, "left": 0, "dropped": 1}`, text)
	assert.Equal(t, []string{"unpark", "unpark", "forget"}, pages.cache.noted())
}

func TestAReloadAnswersWithWhatItDidOrWhyNot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer reloadAnswer
		status int
		says   string
	}{
		"done":    {reloadAnswer{done: Reloaded{Restarted: []string{"shop"}}}, 200, `"restarted": [`},
		"refused": {reloadAnswer{err: errors.New("f.yaml:1: no")}, 422, "f.yaml:1: no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pages := newCommanded(t)
			asked := make(chan reloadRequest)
			pages.reloads = asked
			go func() { (<-asked).answer <- c.answer }()
			status, text := pages.post(t, "/reload", "")
			assert.Equal(t, c.status, status)
			assert.Contains(t, text, c.says)
		})
	}
}
