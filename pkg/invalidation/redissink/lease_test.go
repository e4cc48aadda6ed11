package redissink

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// instance is one of several processes that share a cache.
func instance(t *testing.T, server *miniredis.Miniredis, change func(*Config)) (*Sink, *heard) {
	t.Helper()
	seen := listen()
	cfg := Config{Redis: &redis.UniversalOptions{Addrs: []string{server.Addr()}}, Namespace: "ns", Source: "src", Observer: seen}
	if change != nil {
		change(&cfg)
	}
	sink, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sink.Close()) })
	return sink, seen
}

// positions calls Positions in the background.
func positions(t *testing.T, sink *Sink) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := sink.Positions(t.Context())
		done <- err
	}()
	return done
}

func TestOneLeadsAndTheOtherTakesOverWhenTheLeaseEnds(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	one, _ := instance(t, server, func(c *Config) { c.Holder = NewHolder("one") })
	two, seen := instance(t, server, func(c *Config) { c.Holder = NewHolder("two") })
	require.NoError(t, <-positions(t, one))
	require.NoError(t, one.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	require.NoError(t, one.Apply(t.Context(), invalidation.Batch{}))
	assert.True(t, one.Leads())

	waiting := positions(t, two)
	assert.Equal(t, "one", seen.await(t, invalidation.Standby).Text)
	assert.False(t, two.Leads())
	server.FastForward(leaseTTL)
	require.NoError(t, <-waiting)
	seen.await(t, invalidation.Leading)

	// A leader that froze and goes on harms nothing.
	require.NoError(t, two.Apply(t.Context(), invalidation.Batch{Position: "p2"}))
	require.ErrorIs(t, one.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}, Position: "p0"}), invalidation.ErrResume)
	require.NoError(t, two.Apply(t.Context(), invalidation.Batch{}))
	assert.Equal(t, "p2", stored(t, server))
}

func TestALeaderThatStopsMakesRoomAtOnce(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	one, _ := instance(t, server, nil)
	two, seen := instance(t, server, nil)
	require.NoError(t, <-positions(t, one))
	waiting := positions(t, two)
	seen.await(t, invalidation.Standby)
	require.NoError(t, one.Release(t.Context()))
	require.NoError(t, <-waiting)
	require.NoError(t, one.Release(t.Context()), "it holds none any more")
	assert.True(t, server.Exists("ns:leader:src"), "and does not take away the other's")
}

func TestAProcessThatWasStartedAgainTakesItsOwnLeaseBackOnce(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	before, _ := instance(t, server, func(c *Config) { c.Holder = NewHolder("host:8377") })
	again, _ := instance(t, server, func(c *Config) { c.Holder = NewHolder("host:8377") })
	require.NoError(t, <-positions(t, before))
	require.NoError(t, <-positions(t, again), "without waiting for the end of the lease")
	ctx, cancel := context.WithTimeout(t.Context(), 4*leasePoll)
	defer cancel()
	_, err := before.Positions(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "two that are taken for one do not fight over the lease")
}

func TestTheLeaseIsKeptWhileTheSinkRuns(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	one, seen := instance(t, server, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- one.Run(ctx) }()
	require.NoError(t, <-positions(t, one))
	for range 3 {
		server.SetTTL("ns:leader:src", time.Hour)
		require.Eventually(t, func() bool { return server.TTL("ns:leader:src") <= leaseTTL }, 10*time.Second, 5*time.Millisecond)
	}
	// Another one that took it makes this one step down.
	require.NoError(t, server.Set("ns:leader:src", `another {"name":"two"}`))
	seen.await(t, invalidation.Standby)
	require.Eventually(t, func() bool { return one.resume.Load() != nil }, 10*time.Second, time.Millisecond)
	assert.False(t, one.Leads())
	require.ErrorIs(t, one.Apply(t.Context(), invalidation.Batch{}), invalidation.ErrResume)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

// runs has a Sink run until stop is called or the test ends.
func runs(t *testing.T, sink *Sink) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = sink.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return stop
}

// The lease runs out, and nothing but this tells of it: deletes go on.
func TestALeaderThatCanNotRenewItsLeaseSaysSoUntilItCan(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	one, seen := instance(t, server, nil)
	runs(t, one)
	require.NoError(t, <-positions(t, one))
	server.SetError("NOPERM No permissions to access a key")
	waits := seen.await(t, invalidation.Waiting, invalidation.PartLease)
	for _, want := range []string{"another daemon may lead beside this one", server.Addr(), "NOPERM", `"invalidator check" names the rights`} {
		require.ErrorContains(t, waits.Err, want)
	}
	assert.True(t, one.Leads(), "it goes on: nobody else may be there")
	server.SetError("")
	seen.await(t, invalidation.Working, invalidation.PartLease)
	require.NoError(t, one.Apply(t.Context(), invalidation.Batch{}))
}

// speaks is a server that answers the beginning of each connection.
func speaks(t *testing.T, answer func(conn net.Conn, begins string)) (addr string) {
	t.Helper()
	server, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				begins := make([]byte, 4)
				_, _ = io.ReadFull(conn, begins)
				answer(conn, string(begins))
			})
		}
	})
	t.Cleanup(func() { server.Close(); all.Wait() })
	return server.Addr().String()
}

func TestAServerThatNeverAnsweredIsNamedWithWhatACheckWouldSay(t *testing.T) {
	t.Parallel()
	closes := speaks(t, func(net.Conn, string) {})
	plain := speaks(t, func(conn net.Conn, begins string) { // as Redis does: it waits for the end of the line
		if begins == "PING" {
			_, _ = io.WriteString(conn, "-NOAUTH Authentication required.\r\n")
		}
		_, _ = io.Copy(io.Discard, conn)
	})
	for name, c := range map[string]struct {
		addr string
		tls  *tls.Config
		want string
	}{
		"TLS where there is none": {plain, &tls.Config{MinVersion: tls.VersionTLS12}, " speaks no TLS: remove redis.tls, or name the port that speaks TLS: ask "},
		"no TLS":                  {closes, nil, ": the connection was closed at once: if the server speaks TLS, set redis.tls: {}: ask "},
		"nobody":                  {"127.0.0.1:1", nil, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, seen := instance(t, miniredis.RunT(t), func(cfg *Config) {
				cfg.Redis = &redis.UniversalOptions{Addrs: []string{c.addr}, TLSConfig: c.tls}
			})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				_, err := one.Positions(ctx)
				ended <- err
			}()
			waits := seen.await(t, invalidation.Waiting, invalidation.PartCache)
			require.ErrorContains(t, waits.Err, c.want)
			require.ErrorContains(t, waits.Err, "ask "+c.addr+" for the lease")
			cancel()
			require.ErrorIs(t, <-ended, context.Canceled)
		})
	}
}

// The key is the daemon's own, and a value of another type tells of no leader.
func TestAValueThatIsNoLeaseIsReplaced(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	server.HSet("ns:leader:src", "a", "b")
	state, err := Look(t.Context(), Config{Redis: &redis.UniversalOptions{Addrs: []string{server.Addr()}}, Namespace: "ns", Source: "src"})
	require.NoError(t, err)
	assert.Empty(t, state.Leader)
	one, _ := instance(t, server, nil)
	stop := runs(t, one)
	require.NoError(t, <-positions(t, one))
	server.Del("ns:leader:src")
	server.HSet("ns:leader:src", "a", "b")
	require.Eventually(t, func() bool { return server.Type("ns:leader:src") == "string" }, 20*time.Second, 5*time.Millisecond)
	stop()
	require.NoError(t, one.Release(t.Context()))
	server.HSet("ns:leader:src", "a", "b")
	require.NoError(t, one.Release(t.Context()), "it is nobody's")
	assert.Equal(t, "hash", server.Type("ns:leader:src"))
}

func TestALeaseThatNobodyRenewsDoesNotCountThoughItNeverEnds(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t) // its clock stands still
	require.NoError(t, server.Set("ns:leader:src", "junk"))
	one, seen := instance(t, server, nil)
	waiting := positions(t, one)
	assert.Equal(t, "somebody unknown", seen.await(t, invalidation.Standby).Text)
	require.NoError(t, <-waiting)
	assert.True(t, one.Leads())

	two, seen := instance(t, server, nil)
	_, err := one.lease.acquire(t.Context(), "")
	require.NoError(t, err)
	waiting = positions(t, two)
	seen.await(t, invalidation.Standby)
	began := time.Now()
	for time.Since(began) < leaseStuck+time.Second { // longer than it would wait
		other, err := one.lease.acquire(t.Context(), "")
		require.NoError(t, err)
		require.Empty(t, other, "it is renewed, and so not taken over")
		time.Sleep(leasePoll)
	}
	require.NoError(t, <-waiting, "the leader died")
	seen.await(t, invalidation.Leading)
}

func TestADaemonOfAnotherDatabaseIsRefusedByName(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	identified := func(name, id string, hosts ...string) *Sink {
		sink, _ := instance(t, server, func(c *Config) {
			c.Holder = NewHolder(name)
			c.Identity = func(context.Context) (Identity, error) { return Identity{Server: id, Hosts: hosts}, nil }
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- sink.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-ended })
		require.Eventually(t, func() bool { return sink.lease.identity.Load().Server != "" }, 10*time.Second, time.Millisecond)
		return sink
	}
	leader := identified("shop-a:8377", "uuid-a", "a:3306", "b:3306")
	require.NoError(t, <-positions(t, leader))

	stranger := identified("shop-b:8377", "uuid-b", "c:3306")
	_, err := stranger.Positions(t.Context())
	require.ErrorIs(t, err, invalidation.ErrFatal)
	for _, want := range []string{`"ns"`, `"src"`, "shop-a:8377", "uuid-a", "a:3306", "uuid-b", "c:3306", "a namespace of its own"} {
		require.ErrorContains(t, err, want)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 4*leasePoll)
	defer cancel()
	_, err = identified("shop-c:8377", "uuid-b", "b:3306").Positions(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "one of a pair, on the other server for now, stands by")
}

func TestAFullRedisDoesNotKeepTheLeaseAway(t *testing.T) {
	t.Parallel()
	assert.Contains(t, leaseLua, "#!lua flags=allow-oom\n")
	assert.Contains(t, parkedLua, "#!lua flags=allow-oom\n")
	assert.Contains(t, positionLua, "#!lua flags=allow-oom\n")
}

func TestTheLeaseOfADeadProcessIsTakenOverAtOnce(t *testing.T) {
	t.Parallel()
	if thisProcess() == nil {
		t.Skip("this system does not tell processes apart")
	}
	child := exec.CommandContext(t.Context(), "true")
	require.NoError(t, child.Run())
	about := func(p *process) string {
		text, err := json.Marshal(holderValue{Name: "other", Process: p})
		require.NoError(t, err)
		return "nonce " + string(text)
	}
	server := miniredis.RunT(t)
	require.NoError(t, server.Set("ns:leader:src", about(&process{thisMachine(), child.Process.Pid})))
	one, seen := instance(t, server, nil)
	require.NoError(t, <-positions(t, one))
	seen.await(t, invalidation.Leading)

	for _, alive := range []*process{nil, {thisMachine(), os.Getpid()}, {"elsewhere", child.Process.Pid}} {
		require.NoError(t, server.Set("ns:leader:src", about(alive)))
		two, _ := instance(t, server, nil)
		other, err := two.lease.once(t.Context(), "")
		require.NoError(t, err)
		assert.NotEmpty(t, other)
	}
}

// A process that begins anew has new Sinks, whose Observers know nothing yet.
func TestEverySinkSaysThatItLeads(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	holder := NewHolder("one")
	for range 2 {
		sink, seen := instance(t, server, func(c *Config) { c.Holder = holder })
		require.NoError(t, <-positions(t, sink))
		assert.Equal(t, "one", seen.await(t, invalidation.Leading).Text)
	}
}

// A daemon that is told to stop between two attempts has no Sink that holds the
// lease any more, and gives it up all the same.
func TestAnotherSinkOfTheHolderGivesTheLeaseUp(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	holder := NewHolder("one")
	first, _ := instance(t, server, func(c *Config) { c.Holder = holder })
	_, err := first.Positions(t.Context())
	require.NoError(t, err)
	require.True(t, server.Exists("ns:leader:src"))
	second, _ := instance(t, server, func(c *Config) { c.Holder = holder })
	require.NoError(t, second.Release(t.Context()))
	assert.False(t, server.Exists("ns:leader:src"))
}
