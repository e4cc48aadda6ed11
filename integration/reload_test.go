package integration

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

// changes writes the file anew, with each old text replaced by the one behind
// it.
func (o *operated) changes(from string, oldNew ...string) {
	o.t.Helper()
	changed := strings.NewReplacer(oldNew...).Replace(from)
	require.NotEqual(o.t, from, changed)
	require.NoError(o.t, os.WriteFile(o.file, []byte(changed), 0o600))
}

func TestAReloadWithWhichASourceWouldEndIsRefusedAndTheOldOneRunsOn(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	text, err := os.ReadFile(o.file)
	require.NoError(t, err)
	good := string(text)
	o.exec("INSERT INTO users VALUES (1, 'a', 'a@x')")
	for i, c := range []struct{ old, bad, says string }{
		{"{email}", "{e_mail}", `unknown column "e_mail"`},
		{fmt.Sprintf("password: %q", o.server.Password()), "password: hunter2-hunter2", "Access denied for user"},
		{fmt.Sprintf("addrs: [%q]", o.redis.Addr()), fmt.Sprintf("db: 9999, addrs: [%q]", o.redis.Addr()), "check its mode, db and tls settings"},
	} {
		o.changes(good, c.old, c.bad)
		code, out, errs := o.ask("reload")
		assert.Equal(t, []any{1, ""}, []any{code, out})
		assert.Contains(t, errs, c.says)
		assert.Equal(t, 1, strings.Count(errs, "\n"), errs)
		status, page := o.get(t, "/readyz")
		assert.Equal(t, http.StatusOK, status, page)
		o.cache(1)
		o.exec(fmt.Sprintf("UPDATE users SET name = 'b%d'", i))
		o.awaitGone(1)
	}
	_, page := o.get(t, "/metrics")
	assert.Contains(t, page, `invalidator_config_reloads_total{result="failure"} 3`)
	assert.Contains(t, page, `invalidator_config_reloads_total{result="success"} 0`)
	assert.NotContains(t, o.output(), "hunter2")
	assert.NotContains(t, o.output(), "starting again")

	// A server that is away may come: nobody knows what it would say.
	o.changes(good, fmt.Sprintf("hosts: [%q]", o.server.Addr()), `hosts: ["127.0.0.1:1"]`)
	code, out, errs := o.ask("reload")
	assert.Equal(t, []any{0, "restarted: shop\n", ""}, []any{code, out, errs})
}

// The user of the old configuration has no rights in the namespace of the new one; another user has none at all.
func TestAReloadWithWhichASourceHasNoRightsIsRefusedAndTheOldOneRunsOn(t *testing.T) {
	t.Parallel()
	o, own, admin := ownRedis(t)
	setUserTo := func(user string, rules ...string) {
		args := []any{"ACL", "SETUSER", user, "reset", "on", ">hunter2-hunter2"}
		for _, rule := range rules {
			args = append(args, rule)
		}
		require.NoError(t, admin.Do(t.Context(), args...).Err())
	}
	setUserTo("relay", append([]string{"~" + o.prefix + "*"}, grantedCommands...)...)
	setUserTo("reader", "~*", "+get")
	text, err := os.ReadFile(o.file)
	require.NoError(t, err)
	good := string(text)
	for _, c := range []struct{ old, bad, says string }{
		{`namespace: "`, `namespace: "other`, fmt.Sprintf("redis %s: GET other%sinv:position:shop is refused: the position can not be read: ACL SETUSER relay +get ~other%sinv:* +set +eval ", own.Addr(), o.prefix, o.prefix)},
		{"relay", "reader", "EVAL is refused: the position can not be stored, and no other right could be looked at: ACL SETUSER reader +eval"},
	} {
		o.changes(good, c.old, c.bad)
		code, out, errs := o.ask("reload")
		assert.Equal(t, []any{1, ""}, []any{code, out})
		assert.Contains(t, errs, c.says)
		assert.Equal(t, 1, strings.Count(errs, "\n"), errs)
		o.ready(t)
	}
	assert.NotContains(t, o.output(), "NOPERM")
	assert.NotContains(t, o.output(), "hunter2")

	for i, works := range []struct {
		with string
		acl  []string
	}{
		{"the documented rights", []string{"~" + o.prefix + "*"}},
		{"narrower patterns than those of the rules", []string{"~" + o.prefix + "inv:*", "~" + o.prefix + "email:[a-z]*@*"}},
		{"a lease that can not be given up", []string{"~" + o.prefix + "*", "-del"}},
	} {
		setUserTo("relay", slices.Concat(works.acl[:1], grantedCommands, works.acl[1:])...)
		o.changes(good, "namespace:", fmt.Sprintf("purge_rate: %d\nnamespace:", 5000+i))
		code, out, errs := o.ask("reload")
		assert.Equal(t, []any{0, "restarted: shop\n", ""}, []any{code, out, errs}, "with %s", works.with)
		o.ready(t)
	}
}

// ownRedis is a daemon on a Redis of its own, in which it has a user of its own.
func ownRedis(t *testing.T) (*operated, *servers.RedisServer, *redis.Client) {
	t.Helper()
	c, own := newMySQLCache(t, nil), servers.NewRedis(t)
	admin := own.Client(t)
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "relay", "on", ">hunter2-hunter2", "~*", "&*", "+@all").Err())
	p := start(t, c.on(fmt.Sprintf("{ addrs: [%q], username: relay, password: hunter2-hunter2 }", own.Addr())), "run")
	o := &operated{mysqlCache: c, t: t, program: p, file: p.cmd.Args[len(p.cmd.Args)-1]}
	o.ready(t)
	return o, own, admin
}

func TestASourceThatCameWithAReloadAndWorkedEndsTheDaemonWhenItFails(t *testing.T) {
	t.Parallel()
	o, _, admin := ownRedis(t)
	text, err := os.ReadFile(o.file)
	require.NoError(t, err)
	o.changes(string(text), "namespace:", "purge_rate: 5000\nnamespace:")
	code, _, errs := o.ask("reload")
	require.Equal(t, 0, code, errs)
	o.ready(t)
	require.NoError(t, admin.Do(t.Context(), "ACL", "DELUSER", "relay").Err())
	assert.Equal(t, 1, o.end(t))
	assert.Contains(t, o.output(), "\ninvalidator: ")
	assert.Contains(t, o.output(), "refuses the login: check its username and password")
	assert.NotContains(t, o.output(), "hunter2")
}

func TestAPurgeThatIsInterruptedWhileRedisIsAwayLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	o, own, _ := ownRedis(t)
	own.Pause(t)
	address := listening.FindStringSubmatch(o.output())[1]
	said := &program{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), theBinary(t), "purge", "order:*", "--config="+o.file, "--addr="+address)}
	said.cmd.Stdout, said.cmd.Stderr = said, said
	require.NoError(t, said.cmd.Start())
	t.Cleanup(said.kill)
	said.says(t, "shop: waits for redis: ")
	require.NoError(t, said.cmd.Process.Signal(syscall.SIGINT))
	assert.Equal(t, 1, said.end(t))
	said.says(t, "invalidator: interrupted: what has begun goes on in the daemon")
	own.Unpause(t)
	o.ready(t)
	require.Eventually(t, func() bool {
		_, page := o.get(t, "/metrics")
		return strings.Contains(page, `invalidator_purges_running{source="shop"} 0`) &&
			strings.Contains(page, `invalidator_oldest_undeleted_commit_age_seconds{source="shop"} 0`)
	}, 10*time.Second, 50*time.Millisecond, o)
	assert.NotContains(t, o.output(), `pattern=order:*`, "it was never taken")
}
