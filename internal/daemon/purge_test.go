package daemon

import (
	"context"
	"errors"
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

// awaySink is a cache that can not be reached: no call gets an answer before
// its caller gives up.
type awaySink struct{ dryRunSink }

func (awaySink) Apply(ctx context.Context, _ invalidation.Batch) error { return untilDone(ctx) }

func TestAPurgeThatTheCacheNeverTookIsNotOwed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := silentWatch("shop")
		away, works := watchedSink{Sink: awaySink{}, watch: w}, watchedSink{Sink: dryRunSink{rows: true}, watch: w}
		batch := invalidation.Batch{Patterns: []string{"order:*"}}
		ask := func(giveUp context.Context) <-chan error {
			failed := make(chan error, 1)
			go func() { failed <- away.Apply(giveUp, batch) }()
			synctest.Wait()
			return failed
		}
		first, leaves := context.WithCancel(t.Context())
		left := ask(first)
		assert.Len(t, w.snapshot().Purges, 1, "it is owed as long as somebody asks")
		leaves()
		require.Error(t, <-left)
		assert.Empty(t, w.snapshot().Purges)
		time.Sleep(time.Second)
		w.Observe(idle())
		assert.Zero(t, *w.snapshot().OldestUndeleted)

		second, leaves := context.WithCancel(t.Context())
		left = ask(second)
		require.NoError(t, works.Apply(t.Context(), batch))
		leaves()
		require.Error(t, <-left)
		assert.Len(t, w.snapshot().Purges, 1, "somebody else's is still owed")

		w.Observe(purging(invalidation.PurgeStarted, "order:*", 10, 0))
		third, leaves := context.WithCancel(t.Context())
		left = ask(third)
		leaves()
		require.Error(t, <-left)
		w.Observe(purging(invalidation.PurgeDone, "order:*", 1, 10))
		assert.Empty(t, w.snapshot().Purges, "none is to follow the one that ran")
	})
}

func TestWhoPurgesHearsWhatTheCacheWaitsForBeforeItTookThePurge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pages := newCommanded(t)
		pages.cache.purged = func([]string) error {
			pages.happens(1, waitingFor(invalidation.PartSource, "no route to host"))
			pages.happens(1, waitingFor(invalidation.PartCache, "i/o timeout"))
			time.Sleep(time.Minute)
			pages.happens(1, waitingFor(invalidation.PartCache, "LOADING"))
			go pages.purges("user:*", 9)
			return nil
		}
		_, text := pages.post(t, "/purge", `{"patterns": ["user:*"]}`)
		got := lines(t, text)
		assert.Equal(t, Progress{Event: ProgressWaiting, Source: "shop", Error: "redis: i/o timeout"}, got[0])
		assert.Equal(t, ProgressDone, got[len(got)-1].Event)
	})
}

func TestAPurgeThatTheCacheRefusesFails(t *testing.T) {
	t.Parallel()
	pages := newCommanded(t)
	pages.cache.purged = func([]string) error { return errors.New("login hunter2 refused") }
	_, text := pages.post(t, "/purge", `{"patterns": ["user:*"]}`)
	assert.Equal(t, []Progress{{Event: ProgressFailed, Source: "shop", Error: "login *** refused"}}, lines(t, text))
}

func TestAPurgeThatLeavesKeysIsNotDone(t *testing.T) {
	t.Parallel()
	log, logLines := logged(slog.LevelWarn)
	pages := newCommanded(t)
	pages.member.watch = newWatch(log, newRedactor(), "shop", "mysql")
	refused := errors.New("2 keys were refused, and parked")
	pages.cache.purged = func(patterns []string) error {
		go func() {
			for i, pattern := range patterns {
				pages.happens(1, purging(invalidation.PurgeStarted, pattern, 10, 0))
				pages.happens(1, invalidation.Event{Kind: invalidation.PurgeDone, Part: invalidation.PartCache, Text: pattern, Count: 3, Err: []error{refused, nil}[i]})
			}
		}()
		return nil
	}
	_, text := pages.post(t, "/purge", `{"patterns": ["order:*", "user:*"]}`)
	got := lines(t, text)
	end := got[len(got)-1]
	assert.Equal(t, Progress{Event: ProgressPartly, Source: "shop", Cached: 10, Scanned: 10, Deleted: 6, Refused: "order:*: 2 keys were refused, and parked", Done: 1}, end)
	assert.Equal(t, []string{`level=WARN msg="purge done, but not of every key" source=shop part=redis pattern=order:* deleted=3 left="2 keys were refused, and parked"`}, logLines())
	over, err := end.end()
	assert.True(t, over)
	require.EqualError(t, err, "shop: not every key was deleted: order:*: 2 keys were refused, and parked")
}

func TestOnlyWhereNothingListensNoDaemonAnswers(t *testing.T) {
	t.Parallel()
	asked, gone := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "closed") {
			panic(http.ErrAbortHandler)
		}
		close(asked)
		<-gone
	}))
	defer server.Close()
	defer close(gone)
	address := strings.TrimPrefix(server.URL, "http://")
	client, err := NewClient(address, Secret{})
	require.NoError(t, err)
	_, err = client.Get(t.Context(), "/closed", nil)
	require.EqualError(t, err, address+" took the request and did not answer it (it closed the connection): see its log, and invalidator status")

	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		<-asked
		interrupt()
	}()
	err = client.Follow(ctx, "/purge", PurgeRequest{}, func(Progress) {})
	require.EqualError(t, err, "interrupted: what has begun goes on in the daemon")

	nobody, err := NewClient("127.0.0.1:1", Secret{})
	require.NoError(t, err)
	_, err = nobody.Get(t.Context(), "/status", nil)
	require.ErrorContains(t, err, "no daemon answers: is it running")
}

func TestACommandHasTimeToAskItsServers(t *testing.T) {
	t.Parallel()
	pages := newCommanded(t)
	server, err := startAdmin(t.Context(), HTTP{Listen: "127.0.0.1:0"}, pages.admin)
	require.NoError(t, err)
	defer server.stop()
	assert.Greater(t, server.servers[0].WriteTimeout, commandWithin+5*time.Second)
}
