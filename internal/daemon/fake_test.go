package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// fakeCache is the cache of a source, without a server. It notes what changes
// it.
type fakeCache struct {
	mu      sync.Mutex
	standby bool
	parked  []redissink.Parked
	stuck   []string // parked keys that no retry deletes
	changes []string
	purged  func(patterns []string) error // nil: does nothing
	rewound func()
}

func (f *fakeCache) note(change string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = append(f.changes, change)
}

func (f *fakeCache) noted() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.changes)
}

func (f *fakeCache) Run(ctx context.Context) error               { return untilDone(ctx) }
func (f *fakeCache) Positions(context.Context) ([]string, error) { return []string{""}, nil }
func (f *fakeCache) Stored() []string                            { return []string{"stored"} }
func (f *fakeCache) Leads() bool                                 { return !f.standby }
func (f *fakeCache) Release(context.Context) error               { f.note("release"); return nil }
func (f *fakeCache) Close() error                                { return nil }
func (f *fakeCache) Parked(context.Context) ([]redissink.Parked, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.parked), nil
}

func (f *fakeCache) Apply(context.Context, invalidation.Batch) error {
	f.note("apply")
	return nil
}

func (f *fakeCache) Purge(_ context.Context, patterns ...string) error {
	f.note("purge")
	if f.purged == nil {
		return nil
	}
	return f.purged(patterns)
}

func (f *fakeCache) Forget(_ context.Context, keys ...string) (int, error) {
	f.note("forget")
	f.mu.Lock()
	defer f.mu.Unlock()
	before := len(f.parked)
	f.parked = slices.DeleteFunc(f.parked, func(p redissink.Parked) bool { return slices.Contains(keys, p.Key) })
	return before - len(f.parked), nil
}

func (f *fakeCache) Rewind(_ context.Context, choose func([]string) (string, error)) error {
	position, err := choose(f.Stored())
	if err != nil {
		return err
	}
	f.note("rewind to " + position)
	if f.rewound != nil {
		f.rewound()
	}
	return nil
}

func (f *fakeCache) Unpark(_ context.Context, keys ...string) (int, error) {
	f.note("unpark")
	f.mu.Lock()
	defer f.mu.Unlock()
	before := len(f.parked)
	f.parked = slices.DeleteFunc(f.parked, func(p redissink.Parked) bool {
		return slices.Contains(keys, p.Key) && !slices.Contains(f.stuck, p.Key)
	})
	return before - len(f.parked), nil
}

// fakeReader is a log that answers from memory.
type fakeReader struct{ part }

func (fakeReader) Check(context.Context, []string) []invalidation.Finding { return nil }
func (fakeReader) Identity(context.Context) (string, error)               { return "server", nil }
func (fakeReader) Now(context.Context) (string, error)                    { return "now", nil }
func (fakeReader) Behind(context.Context) (LagStatus, error)              { return LagStatus{1, 2}, nil }

func (fakeReader) Rewind(_ context.Context, back time.Duration, stored []string) (string, error) {
	return stored[0] + "-" + back.String(), nil
}

func (fakeReader) CompletePosition(_ context.Context, text string, stored []string) (string, error) {
	if text == "nonsense" {
		return "", errors.New(`"nonsense" is no position: login hunter2`)
	}
	return text + " before " + strings.Join(stored, " and "), nil
}

// commanded is a source that leads, behind the admin pages.
type commanded struct {
	*admin

	cache  *fakeCache
	member *member
}

const testToken = "hunter2-t0ken"

// newCommanded returns pages with a token, and one source that leads.
func newCommanded(t *testing.T) *commanded {
	t.Helper()
	held, watched := &fakeCache{}, silentWatch("shop")
	m := &member{
		supervisor: &supervisor{watch: watched, feed: newFeed(watched.log)}, ended: make(chan struct{}),
		source: Source{Name: "shop", Postgres: &Postgres{}, Purge: []string{"user:*", "order:*"}}, spec: spec{namespace: "inv"},
	}
	m.running.Store(&assembly{cache: held, reader: fakeReader{}, attempt: 1})
	stopping := make(chan struct{})
	a := &admin{
		members: func() []*member { return []*member{m} }, guard: newGuard(HTTP{Token: NewSecret(testToken)}),
		hide: newRedactor("hunter2").error, stopping: stopping,
	}
	a.alive.Store(true)
	return &commanded{admin: a, cache: held, member: m}
}

// happens reports an event of an attempt.
func (c *commanded) happens(attempt int, e invalidation.Event) {
	c.member.watch.Observe(e)
	c.member.feed.observe(attempt, e)
}
