package integration

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

// pair is one configuration, started twice.
type pair struct {
	*mysqlCache

	leader, standby *program
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{mysqlCache: newMySQLCache(t, servers.NewMySQL(t))}
	p.leader = start(t, p.yaml(""), "run")
	p.leader.ready(t)
	p.standby = start(t, p.yaml(""), "run")
	p.standby.ready(t)
	_, text := p.standby.get(t, "/readyz")
	require.Contains(t, text, "standby", "%s", p.standby)
	return p
}

// deletedBy writes a row and returns when its entry was deleted.
func (p *pair) deletedBy(id int) time.Time {
	p.t.Helper()
	p.cache(id)
	p.exec(fmt.Sprintf("INSERT INTO users VALUES (%d, 'a', NULL)", id))
	p.awaitGone(id)
	return time.Now()
}

// Anomaly 40: one leads, the other takes over within 5 s of a kill.
func TestStandbyTakesOverFromALeaderThatIsKilled(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.deletedBy(1)
	killed := time.Now()
	p.leader.kill()
	took := p.deletedBy(2).Sub(killed)
	t.Logf("took over within %v", took)
	assert.Less(t, took, 5*time.Second)
	p.standby.ready(t)
	assert.NotContains(t, p.standby.output(), "no usable position", "it goes on where the leader was")
}

func TestStandbyTakesOverFromALeaderThatStopsAtOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.deletedBy(1)
	stopped := time.Now()
	require.NoError(t, p.leader.cmd.Process.Signal(syscall.SIGTERM))
	took := p.deletedBy(2).Sub(stopped)
	t.Logf("took over within %v", took)
	assert.Less(t, took, 2*time.Second, "it does not wait for the end of the lease")
	assert.Zero(t, p.leader.end(t))
}

// A leader that froze for longer than its lease harms nothing when it goes on.
func TestStandbyTakesOverFromALeaderThatFreezes(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.deletedBy(1)
	frozen := time.Now()
	p.leader.freeze(t)
	took := p.deletedBy(2).Sub(frozen)
	t.Logf("took over within %v", took)
	assert.Less(t, took, 10*time.Second)

	position := func() string { return p.rdb.Get(t.Context(), p.prefix+"inv:position:shop").Val() }
	before := position()
	require.NotEmpty(t, before)
	require.NoError(t, p.leader.cmd.Process.Signal(syscall.SIGCONT))
	require.Eventually(t, func() bool {
		_, text := p.leader.get(t, "/readyz")
		return strings.Contains(text, "standby")
	}, 20*time.Second, 10*time.Millisecond, "the old leader: %s", p.leader)
	for id := 3; id < 10; id++ {
		p.deletedBy(id)
	}
	p.standby.ready(t)
	_, text := p.standby.get(t, "/readyz")
	assert.NotContains(t, text, "standby", "leadership does not go back and forth")
	require.Eventually(t, func() bool { return position() != before }, 10*time.Second, 10*time.Millisecond)
	assert.NotContains(t, p.standby.output(), "no usable position")
	assert.Equal(t, 1, strings.Count(p.leader.output(), "no usable position"), "its first start")
	p.leader.ready(t)
}

// Another team's daemon with the same namespace and source name.
func TestDaemonOfAnotherDatabaseIsRefusedByName(t *testing.T) {
	t.Parallel()
	ours := newMySQLCache(t, nil)
	leader := start(t, ours.yaml(""), "run")
	leader.ready(t)
	ours.cache(1)

	theirs := newMySQLCache(t, servers.NewMySQL(t))
	config := regexp.MustCompile(`namespace: .*`).ReplaceAllLiteralString(theirs.yaml(""), "namespace: "+strconv.Quote(ours.prefix+"inv"))
	config = strings.ReplaceAll(config, theirs.redis.Addr(), ours.redis.Addr())
	stranger := start(t, config, "run")
	assert.Equal(t, 1, stranger.end(t))
	for _, want := range []string{"namespace", ours.prefix + "inv", "shop", leader.address(t), ours.server.Addr(), theirs.server.Addr()} {
		assert.Contains(t, stranger.output(), want)
	}
	assert.NotContains(t, stranger.output(), "purge")
	assert.True(t, ours.cached(1))
	status, _ := leader.get(t, "/readyz")
	assert.Equal(t, http.StatusOK, status, "the leader goes on")
}

// Another team's outbox is on the same Postgres server.
func TestDaemonOfAnotherDatabaseOfTheServerIsRefusedByName(t *testing.T) {
	t.Parallel()
	pg, rdb, namespace := servers.Postgres(t), servers.Redis(t), servers.Prefix(t)+"inv"
	ours, theirs := newOutboxDB(t, pg), newOutboxDB(t, pg)
	config := func(db *outboxDB) string {
		return fmt.Sprintf(`
namespace: %q
redis: { addrs: [%q] }
sources:
  - name: orders
    postgres: { hosts: [%q], user: %q, password: %q, database: %q }
    purge: ["order:*"]
http: { listen: "127.0.0.1:0" }
`, namespace, rdb.Addr(), pg.Addr(), pg.User(), pg.Password(), db.name)
	}
	leader := start(t, config(ours), "run")
	leader.ready(t)
	stranger := start(t, config(theirs), "run")
	assert.Equal(t, 1, stranger.end(t))
	for _, want := range []string{"another database", leader.address(t), pg.Addr() + "/" + ours.name, pg.Addr() + "/" + theirs.name} {
		assert.Contains(t, stranger.output(), want)
	}
	leader.ready(t)
}

func (p *program) address(t *testing.T) string {
	t.Helper()
	p.says(t, "http=")
	return listening.FindStringSubmatch(p.output())[1]
}
