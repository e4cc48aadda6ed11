package cacheaside

import (
	"cmp"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const key = "user:42"

// database is what the cache is in front of: one row.
type database struct {
	mu    sync.Mutex
	value string
	loads int
}

// commit changes the row from "old" to "new".
func (d *database) commit() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.value = "new"
}

func (d *database) load(context.Context) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loads++
	return d.value, nil
}

func (d *database) loaded() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.loads
}

// recorder is an Observer that remembers.
type recorder struct {
	mu     sync.Mutex
	events []Event
	more   chan struct{}
}

func newRecorder() *recorder { return &recorder{more: make(chan struct{}, 1000)} }

func (r *recorder) Observe(e Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	r.more <- struct{}{}
}

func (r *recorder) kinds() (kinds []EventKind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func (r *recorder) last() Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[len(r.events)-1]
}

// await waits for an event of kind k.
func (r *recorder) await(t *testing.T, k EventKind) Event {
	t.Helper()
	for {
		r.mu.Lock()
		for _, e := range r.events {
			if e.Kind == k {
				r.mu.Unlock()
				return e
			}
		}
		r.mu.Unlock()
		select {
		case <-r.more:
		case <-time.After(10 * time.Second):
			require.Fail(t, "no event", k.String())
		}
	}
}

func connect(t *testing.T, addr string, more ...func(*redis.Options)) *redis.Client {
	t.Helper()
	o := &redis.Options{Addr: addr}
	for _, f := range more {
		f(o)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// process is one program that uses the cache: a Client with connections of its own.
type process struct {
	*Client
	view   *View[string]
	events *recorder
}

// unhurried is how long a test's Redis may take for an answer: on a machine that is busy the defaults are over before it has one.
const unhurried = 10 * time.Second

func newProcess(t *testing.T, addr string, o Options) process {
	t.Helper()
	p := process{events: newRecorder()}
	o.Observer = p.events
	o.RedisTimeout, o.DeleteTimeout = cmp.Or(o.RedisTimeout, unhurried), cmp.Or(o.DeleteTimeout, unhurried)
	var err error
	p.Client, err = New(connect(t, addr), o)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	p.view = For[string](p.Client, Policy{TTL: time.Hour})
	return p
}

// world is a Redis, a database and two processes that read and write, with a third connection for other programs.
type world struct {
	redis *miniredis.Miniredis
	other *redis.Client
	db    *database
	a, b  process
}

func setup(t *testing.T) world {
	t.Helper()
	m := miniredis.RunT(t)
	return world{
		redis: m,
		other: connect(t, m.Addr()),
		db:    &database{value: "old"},
		a:     newProcess(t, m.Addr(), Options{}),
		b:     newProcess(t, m.Addr(), Options{}),
	}
}

func (w world) get(t *testing.T, p process) string {
	t.Helper()
	v, err := p.view.Get(t.Context(), key, w.db.load)
	require.NoError(t, err)
	return v
}

// write commits "new" and deletes the key, in process b.
func (w world) write(t *testing.T) {
	t.Helper()
	require.NoError(t, w.b.Write(t.Context(), func(context.Context) ([]string, error) {
		w.db.commit()
		return []string{key}, nil
	}))
}

// entry is a value as p would store it.
func (p process) entry(t *testing.T, value string) []byte {
	t.Helper()
	payload, err := JSON{}.Marshal(value)
	require.NoError(t, err)
	return p.view.policy.entry(payload, time.Now(), 0)
}

// fillWith fills the key as the holder of l would.
func (p process) fillWith(t *testing.T, l lease, entry []byte) bool {
	t.Helper()
	o := p.fill.op(t.Context(), stepFill, key, false, l[:], entry, time.Hour.Milliseconds())
	p.exec(t.Context(), []*op{o})
	require.NoError(t, o.err)
	return o.yes()
}

// once makes p run f once, right before its first command of kind s.
func (p process) once(s step, f func()) {
	var first sync.Once
	p.hooks.before = func(_ context.Context, now step, _ string) {
		if now == s {
			first.Do(f)
		}
	}
}

// naive is cache-aside as it is mostly written: get, or load and set.
func naive(t *testing.T, rdb *redis.Client, load func(context.Context) (string, error), beforeSet func()) string {
	t.Helper()
	v, err := rdb.Get(t.Context(), key).Result()
	if err == nil {
		return v
	}
	require.ErrorIs(t, err, redis.Nil)
	v, err = load(t.Context())
	require.NoError(t, err)
	beforeSet()
	require.NoError(t, rdb.Set(t.Context(), key, v, time.Hour).Err())
	return v
}

func nothing() {}

// check is require.NoError for goroutines.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
