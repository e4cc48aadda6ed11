package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const twoSources = `
namespace: shop
redis: { addrs: ["127.0.0.1:1"], password: hunter2-redis }
sources:
  - name: orders
    postgres: { hosts: ["127.0.0.1:1"], user: relay, database: orders }
    purge: ["order:*"]
  - name: stock
    postgres: { hosts: ["127.0.0.1:1"], user: relay, database: stock, tls: { ca_file: CA } }
    purge: ["stock:*"]
http: { listen: "127.0.0.1:9", token: hunter2-token }
`

// reloaded is a daemon whose sources run against nothing, and its file.
type reloaded struct {
	*daemon

	t     *testing.T
	file  string
	lines func() []string
}

func newReloaded(t *testing.T) *reloaded {
	t.Helper()
	r := &reloaded{t: t, file: filepath.Join(t.TempDir(), "invalidator.yaml")}
	ca, err := os.ReadFile("testdata/ca.pem")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(r.ca(), ca, 0o600))
	r.write(twoSources)
	cfg, err := Load(r.file, LoadOptions{})
	require.NoError(t, err)
	log, lines := logged(slog.LevelInfo)
	r.lines = lines
	r.daemon = newDaemon(cfg, Options{Logger: log, Load: func() (Config, error) { return Load(r.file, LoadOptions{}) }})
	var members []*member
	for _, src := range cfg.Sources {
		members = append(members, r.member(src))
	}
	r.fleet.set(members)
	ctx, cancel := context.WithCancel(t.Context())
	for _, m := range members {
		r.fleet.start(ctx, m)
	}
	t.Cleanup(func() {
		cancel()
		assert.Zero(t, untilEnded(context.WithoutCancel(ctx), r.fleet.all()))
	})
	return r
}

func (r *reloaded) ca() string { return filepath.Join(filepath.Dir(r.file), "ca.pem") }

func (r *reloaded) write(text string) {
	r.t.Helper()
	require.NoError(r.t, os.WriteFile(r.file, []byte(strings.ReplaceAll(text, "CA", r.ca())), 0o600))
}

// becomes reloads with the text changed.
func (r *reloaded) becomes(oldNew ...string) (Reloaded, error) {
	r.t.Helper()
	r.write(strings.NewReplacer(oldNew...).Replace(twoSources))
	return r.reload(r.t.Context())
}

func (r *reloaded) names() (names []string) {
	for _, m := range r.fleet.all() {
		names = append(names, m.source.Name)
	}
	return names
}

const stockSection = `  - name: stock
    postgres: { hosts: ["127.0.0.1:1"], user: relay, database: stock, tls: { ca_file: CA } }
    purge: ["stock:*"]
`

// lists returns the same with empty lists for none, as JSON has them.
func (r Reloaded) lists() Reloaded {
	for _, list := range []*[]string{&r.Started, &r.Restarted, &r.Stopped, &r.Unchanged} {
		*list = append([]string{}, *list...)
	}
	return r
}

func TestAReloadTouchesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	both := []string{"orders", "stock"}
	for name, c := range map[string]struct {
		change []string
		want   Reloaded
	}{
		"nothing":         {nil, Reloaded{Unchanged: both}},
		"a source":        {[]string{"order:", "orders:"}, Reloaded{Restarted: both[:1], Unchanged: both[1:]}},
		"a name":          {[]string{"name: orders", "name: sales"}, Reloaded{Started: []string{"sales"}, Unchanged: both[1:], Stopped: both[:1]}},
		"one less":        {[]string{stockSection, ""}, Reloaded{Unchanged: both[:1], Stopped: both[1:]}},
		"the namespace":   {[]string{"namespace: shop", "namespace: mall"}, Reloaded{Restarted: both}},
		"redis":           {[]string{"hunter2-redis", "hunter3-redis"}, Reloaded{Restarted: both}},
		"the purge rate":  {[]string{"namespace: shop", "namespace: shop\npurge_rate: 5"}, Reloaded{Restarted: both}},
		"the admin token": {[]string{"hunter2-token", "hunter3-token"}, Reloaded{Unchanged: both}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReloaded(t)
			before := map[string]*member{}
			for _, m := range r.fleet.all() {
				before[m.source.Name] = m
			}
			got, err := r.becomes(c.change...)
			require.NoError(t, err)
			assert.Equal(t, c.want.lists(), got)
			for _, m := range r.fleet.all() {
				unchanged := strings.Contains(strings.Join(c.want.Unchanged, " "), m.source.Name)
				assert.Equal(t, unchanged, before[m.source.Name] == m, m.source.Name)
				assert.False(t, m.isOver())
				delete(before, m.source.Name)
			}
			for _, m := range before {
				assert.True(t, m.isOver(), "what is not in the file any more has stopped")
			}
			assert.NotContains(t, strings.Join(r.lines(), "\n"), "hunter")
		})
	}
}

func TestARenewedCertificateRestartsItsSource(t *testing.T) {
	t.Parallel()
	r := newReloaded(t)
	ca, err := os.ReadFile(r.ca())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(r.ca(), append(ca, '\n'), 0o600))
	got, err := r.reload(t.Context())
	require.NoError(t, err)
	assert.Equal(t, Reloaded{Restarted: []string{"stock"}, Unchanged: []string{"orders"}}.lists(), got)
}

func TestARefusedReloadChangesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change []string
		says   []string
	}{
		"mistakes":         {[]string{"order:*", "*", "user: relay", "usr: relay"}, []string{"does not begin with literal text", `unknown field "usr"`}},
		"a missing file":   {[]string{"password: hunter2-redis", "password_file: /none"}, []string{"redis.password_file: can not be read"}},
		"another address":  {[]string{"127.0.0.1:9", "127.0.0.1:10"}, []string{"http.listen: can not change from 127.0.0.1:9 to 127.0.0.1:10 while the daemon runs: restart it"}},
		"another socket":   {[]string{"http: {", "http: { socket: /tmp/x,"}, []string{"http.socket: can not change"}},
		"a secret astray":  {[]string{"database: orders", "database: orders, tls: hunter2-redis"}, []string{"sources[0].postgres.tls"}},
		"a missing number": {[]string{"namespace: shop", "namespace: shop\npurge_rate: 0"}, []string{"purge_rate: is 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReloaded(t)
			before := r.fleet.all()
			_, err := r.becomes(c.change...)
			require.Error(t, err)
			log := strings.Join(r.lines(), "\n")
			for _, says := range c.says {
				assert.Contains(t, err.Error(), says)
				assert.Contains(t, strings.ReplaceAll(log, `\"`, `"`), says, "a line of the log")
			}
			assert.NotContains(t, err.Error()+log, "hunter2")
			assert.Equal(t, before, r.fleet.all())
			assert.Equal(t, []string{"orders", "stock"}, r.names())
			assert.False(t, before[0].isOver())
		})
	}
}

func TestAReloadIsRefusedWhileTheOldSourcesRunWhereANewOneWouldEnd(t *testing.T) {
	t.Parallel()
	r := newReloaded(t)
	before := r.fleet.all()
	asked := make(chan string, 4)
	r.rehearse = func(_ context.Context, cfg Config, src Source) error {
		asked <- src.Name
		return invalidation.Fatal(errors.New("login of " + cfg.Redis.Password.Reveal() + " is refused\nfor " + src.Name))
	}
	_, err := r.becomes("user: relay, database: orders", "user: other, database: orders")
	require.EqualError(t, err, "login of *** is refused\nfor orders")
	assert.Equal(t, "orders", <-asked)
	assert.Empty(t, asked, "what stays as it is needs no rehearsal")
	assert.Equal(t, before, r.fleet.all())
	assert.False(t, before[0].isOver())
	assert.Contains(t, strings.Join(r.lines(), "\n"), `level=ERROR msg="reload refused: the old configuration stays" error="for orders"`)
	assert.Equal(t, []float64{0, 1}, []float64{r.reloads("success"), r.reloads("failure")})

	_, err = r.becomes("hunter2-redis", "hunter3-redis")
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "hunter3", "a secret of the file that is refused")
	r.rehearse = func(context.Context, Config, Source) error { return invalidation.Fatal(errors.New("redis refuses")) }
	_, err = r.becomes("hunter2-redis", "hunter3-redis")
	require.EqualError(t, err, "redis refuses", "once for all sources")
	assert.Equal(t, before, r.fleet.all())
}

func TestServersThatAreSilentRefuseNoReloadAndDoNotHoldItUp(t *testing.T) {
	t.Parallel()
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	hosts := []string{silent.Addr().String()}
	cfg := Config{Namespace: "shop", Redis: Redis{Mode: modeStandalone, Addrs: hosts}, PurgeRate: 1}
	for _, src := range []Source{
		{Name: "shop", MySQL: &MySQL{Hosts: hosts, User: "u"}, Rules: []Rule{{Table: "shop.users", Keys: []string{"user:{id}"}}}},
		{Name: "orders", Postgres: &Postgres{Hosts: hosts, User: "u", Database: "d"}, Purge: []string{"order:*"}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		require.NoError(t, rehearse(ctx, cfg, src))
		assert.Less(t, time.Since(begun), 3*time.Second)
	}
}

// reloads returns how many reloads had a result.
func (r *reloaded) reloads(result string) float64 {
	return testutil.ToFloat64(r.metrics.reloads.WithLabelValues(result))
}

func TestASourceThatCameWithAReloadFailsAloneUntilItHasWorked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		happens invalidation.Event
		spared  bool
	}{
		"it never worked":        {happens: invalidation.Event{Kind: invalidation.Leading, Part: invalidation.PartLease}, spared: true},
		"only the cache worked":  {happens: working(invalidation.PartCache), spared: true},
		"it was caught up":       {happens: invalidation.Event{Kind: invalidation.Advanced, Idle: true}},
		"it had stood by so far": {happens: invalidation.Event{Kind: invalidation.Standby, Part: invalidation.PartLease, Text: "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log, lines := logged(slog.LevelWarn)
				m := &member{lenient: true, supervisor: &supervisor{watch: newWatch(log, newRedactor(), "shop", "mysql"), feed: newFeed(slog.New(slog.DiscardHandler))}}
				counts := newMetrics("v1", "abc")
				m.watch = m.watch.metered(counts, nil)
				attempts := 0
				m.assemble = func(w watch) (assembly, error) {
					source := runFunc(func(context.Context) error {
						w.Observe(c.happens)
						if attempts++; attempts == 1 {
							return errors.New("reset by peer")
						}
						return invalidation.Fatal(errors.New("wrong password"))
					})
					return assembly{parts: []part{source}, close: func() error { return nil }}, nil
				}
				f := newFleet(log)
				f.set([]*member{m})
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				err := f.run(ctx, nil, nil, nil)
				if !c.spared {
					require.EqualError(t, err, "wrong password")
					require.NoError(t, ctx.Err(), "at once")
					return
				}
				require.NoError(t, err)
				require.Error(t, ctx.Err(), "the others run on")
				assert.Contains(t, strings.Join(lines(), "\n"), `level=ERROR msg="ended for good: correct what the error names, then reload" source=shop state=ended error="wrong password"`)
				status := m.watch.snapshot()
				assert.Equal(t, []any{Ended, "wrong password", false, 1}, []any{status.State, status.Reason, status.Ready, status.Restarts})
				assert.Contains(t, exposition(t, counts), `invalidator_leader{source="shop"} 0`)
			})
		})
	}
}

func TestOnlyAStopForGoodGivesTheLeaseUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cause error // of the stop
		fails error // what ends the attempt instead
		want  []string
	}{
		"a shutdown":                  {context.Canceled, nil, []string{"release"}},
		"a removed source":            {errRemoved, nil, []string{"release"}},
		"a new configuration":         {errReplaced, nil, nil},
		"an error only people heal":   {nil, invalidation.Fatal(errors.New("wrong password")), []string{"release"}},
		"a stop between two attempts": {context.Canceled, errors.New("broken"), []string{"release"}},
		"a change between attempts":   {errReplaced, errors.New("broken"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			held := &fakeCache{}
			ended := make(chan struct{}, 1)
			s := &supervisor{watch: silentWatch("shop"), feed: newFeed(slog.New(slog.DiscardHandler)), assemble: func(watch) (assembly, error) {
				source := runFunc(func(ctx context.Context) error {
					select {
					case ended <- struct{}{}:
					default:
					}
					if c.fails != nil {
						return c.fails
					}
					return untilDone(ctx)
				})
				return assembly{parts: []part{source}, cache: held, close: held.Close}, nil
			}}
			ctx, stop := context.WithCancelCause(t.Context())
			defer stop(nil)
			finished := make(chan error, 1)
			go func() { finished <- s.run(ctx) }()
			<-ended
			if c.cause != nil {
				stop(c.cause)
			}
			<-finished
			assert.Equal(t, c.want, held.noted())
		})
	}
}
