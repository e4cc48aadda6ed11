package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const operatorToken = "0perat0r-t0ken"

// operated is a running daemon and what an operator needs to command it.
type operated struct {
	*mysqlCache
	*program

	t    *testing.T
	file string
}

// newOperated starts a daemon with a token, and waits until it is ready.
func newOperated(t *testing.T) *operated {
	t.Helper()
	c := newMySQLCache(t, nil)
	o := &operated{mysqlCache: c, t: t, program: start(t, withToken(c), "run")}
	o.file = o.cmd.Args[len(o.cmd.Args)-1]
	o.ready(t)
	return o
}

// withToken is the configuration of the cache's source with a guarded admin
// server.
func withToken(c *mysqlCache) string {
	return strings.Replace(c.yaml(""), `listen: "127.0.0.1:0"`, `listen: "127.0.0.1:0", token: "`+operatorToken+`"`, 1)
}

// command runs the program to its end and returns what it printed.
func (o *operated) command(args ...string) (code int, out, errs string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 2*time.Minute) // some wait for the daemon
	defer cancel()
	cmd := exec.CommandContext(ctx, theBinary(o.t), append(args, "--config="+o.file)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	assert.NotContains(o.t, stdout.String()+stderr.String(), operatorToken)
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// ask is command for one that talks to the daemon.
func (o *operated) ask(args ...string) (code int, out, errs string) {
	o.t.Helper()
	o.says(o.t, "http=")
	return o.command(append(args, "--addr="+listening.FindStringSubmatch(o.output())[1])...)
}

func TestAnOperatorReplaysPurgesAndLooks(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	o.exec("INSERT INTO users VALUES (1, 'a', 'a@x')")
	o.cache(1)
	o.exec("UPDATE users SET name = 'b'")
	o.awaitGone(1)

	o.cache(1, "email:a@x") // as if deletes had been undone behind the daemon's back
	code, out, errs := o.ask("replay", "--since=2s")
	assert.Equal(t, 0, code, errs)
	assert.Contains(t, out, "shop: done: ")
	assert.False(t, o.cached(1))
	assert.False(t, o.cached("email:a@x"))

	o.cache(2, 3, "email:x", "email:y")
	code, out, errs = o.ask("purge", o.prefix+"email:*")
	assert.Equal(t, 0, code, errs)
	assert.Contains(t, out, "shop: purges "+o.prefix+"email:*: looks at ")
	assert.Contains(t, out, "shop: done: 2 keys deleted")
	assert.Equal(t, []bool{true, false}, []bool{o.cached(2), o.cached("email:x")})
	code, out, errs = o.ask("purge", "--all", "--json")
	assert.Equal(t, 0, code, errs)
	assert.False(t, o.cached(2))
	var last struct{ Event string }
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
	assert.Equal(t, "done", last.Event)

	code, out, errs = o.ask("status")
	assert.Equal(t, 0, code, errs)
	assert.Regexp(t, `shop +mysql +running +this one`, out)
	code, out, _ = o.ask("parked")
	assert.Equal(t, 0, code)
	assert.Equal(t, "no keys are parked\n", out)
	code, _, errs = o.command("position", "set", "--now")
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "leads: stop it first, or let it begin again with invalidator replay")
	code, out, _ = o.command("position", "show")
	assert.Equal(t, 0, code)
	assert.Contains(t, out, `"gtids"`)
	o.ready(t)
	assert.NotContains(t, o.output(), operatorToken)
}

func TestAnOperatorReplaysFromAPositionThatWasShown(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	o.exec("INSERT INTO users VALUES (1, 'a', 'a@x')")
	code, out, errs := o.command("position", "show")
	require.Equal(t, 0, code, errs)
	shown := strings.TrimSpace(out[strings.Index(out, "{"):])
	o.cache(1)
	o.exec("UPDATE users SET name = 'b'")
	o.awaitGone(1)
	o.cache(1)
	code, out, errs = o.ask("replay", "--from="+shown)
	assert.Equal(t, 0, code, errs)
	assert.Contains(t, out, "shop: replays from "+shown)
	assert.False(t, o.cached(1))

	code, _, errs = o.ask("replay", "--from="+elsewhere+":1-5")
	assert.Equal(t, 1, code)
	assert.Equal(t, 1, strings.Count(errs, "\n"), errs)
	o.ready(t)
}

func TestPositionsOfAStoppedDaemonAreSet(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	require.NoError(t, o.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, o.end(t))
	o.exec("INSERT INTO users VALUES (1, 'a', 'a@x')")
	o.cache(1)
	code, out, errs := o.command("position", "set", "--now")
	require.Equal(t, 0, code, errs)
	position := strings.TrimSpace(strings.TrimPrefix(out, "set to "))
	p := start(t, withToken(o.mysqlCache), "run")
	p.ready(t)
	assert.True(t, o.cached(1), "what is before the position is not deleted")
	o.exec("UPDATE users SET name = 'b'")
	o.awaitGone(1)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.end(t))

	o.cache(1)
	o.exec("UPDATE users SET name = 'c'")
	var newer string
	require.NoError(t, o.db.QueryRowContext(t.Context(), "SELECT @@global.gtid_executed").Scan(&newer))
	code, _, errs = o.command("position", "set", newer)
	require.Equal(t, 0, code, "it may go forward: %s", errs)
	code, _, errs = o.command("position", "set", position)
	require.Equal(t, 0, code, errs)
	code, _, errs = o.command("position", "set", "nonsense")
	assert.Equal(t, 1, code)
	assert.Equal(t, 1, strings.Count(errs, "\n"), errs)
	start(t, withToken(o.mysqlCache), "run").ready(t)
	o.awaitGone(1)
}

func TestAStoppedLeaderIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	second := start(t, withToken(o.mysqlCache), "run")
	second.says(t, "standby")
	code, _, errs := o.command("purge", o.prefix+"*", "--addr="+listening.FindStringSubmatch(second.output())[1])
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "leads: ask that one")
	stopped := time.Now()
	require.NoError(t, o.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, o.end(t))
	assert.Less(t, time.Since(stopped), 5*time.Second)
	require.Eventually(t, func() bool {
		_, out, _ := o.command("status", "--addr="+listening.FindStringSubmatch(second.output())[1])
		return strings.Contains(out, "this one")
	}, 2*time.Second, 20*time.Millisecond, "the lease ends after 3 s by itself")
}

func TestAReloadChangesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	old, err := os.ReadFile(o.file)
	require.NoError(t, err)
	o.cache("copy:1")
	o.exec("INSERT INTO users VALUES (1, 'a', 'a@x')")

	require.NoError(t, os.WriteFile(o.file, append(old, "surplus: 1\n"...), 0o600))
	code, _, errs := o.ask("reload")
	assert.Equal(t, 2, code)
	assert.Contains(t, errs, `unknown field "surplus"`)
	require.NoError(t, o.cmd.Process.Signal(syscall.SIGHUP))
	o.says(t, "reload refused")
	o.ready(t)

	changed := strings.Replace(string(old), fmt.Sprintf(`"%s{id}"`, o.prefix), fmt.Sprintf(`"%s{id}", "%scopy:{id}"`, o.prefix, o.prefix), 1)
	require.NoError(t, os.WriteFile(o.file, []byte(changed), 0o600))
	code, out, errs := o.ask("reload")
	assert.Equal(t, 0, code, errs)
	assert.Equal(t, "restarted: shop\n", out)
	o.awaitGone("copy:1") // a new rule purges its own pattern
	o.cache(1, "copy:1")
	o.exec("UPDATE users SET name = 'b'")
	o.awaitGone(1)
	o.awaitGone("copy:1")
	code, out, errs = o.ask("reload", "--json")
	assert.Equal(t, 0, code, errs)
	assert.Contains(t, out, `"unchanged": [`)
	assert.Equal(t, 1, strings.Count(o.output(), "no usable position"), "of the first start")

	moved := strings.Replace(changed, `"127.0.0.1:0"`, `"127.0.0.1:1"`, 1)
	require.NoError(t, os.WriteFile(o.file, []byte(moved), 0o600))
	code, _, errs = o.ask("reload")
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "http.listen: can not change")
}

// begin runs a command that talks to the daemon in the background.
func (o *operated) begin(args ...string) *program {
	o.t.Helper()
	args = append(args, "--config="+o.file, "--addr="+listening.FindStringSubmatch(o.output())[1])
	p := &program{cmd: exec.CommandContext(context.WithoutCancel(o.t.Context()), theBinary(o.t), args...)}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	require.NoError(o.t, p.cmd.Start())
	o.t.Cleanup(p.kill)
	return p
}

func TestAPurgeThatTheACLForbidsIsToldAndHoldsNothingUp(t *testing.T) {
	t.Parallel()
	o, _, admin := ownRedis(t)
	o.rdb = admin
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "relay", "resetkeys", "~"+o.prefix+"*").Err())
	const others = 1200 // more than are ever parked
	pipe := admin.Pipeline()
	for i := range others {
		pipe.Set(t.Context(), fmt.Sprint("zzz:", i), "x", 0)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	code, out, errs := o.ask("purge", "zzz:*")
	assert.Equal(t, 1, code, errs)
	assert.Contains(t, out, "shop: done: 0 keys deleted")
	assert.Equal(t, "invalidator: shop: not every key was deleted: zzz:*: 1200 keys were refused and stay: let the daemon's user delete them, and purge again: NOPERM No permissions to access a key\n", errs)
	code, out, _ = o.ask("parked")
	assert.Equal(t, []any{0, "no keys are parked\n"}, []any{code, out})
	o.cache(1)
	o.exec("INSERT INTO users VALUES (1, 'a', 'a@x')")
	o.awaitGone(1)
	o.ready(t)

	o.cache("email:b@x")
	require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "relay", "resetkeys", "~"+o.prefix+"inv:*").Err())
	o.exec("UPDATE users SET email = 'b@x'")
	o.says(t, "redis refuses to delete a key")
	require.NoError(t, admin.Del(t.Context(), o.key("email:b@x")).Err())
	for _, args := range [][]string{{"parked", "--retry"}, {"parked", "--retry", "--json"}} {
		code, _, errs = o.ask(args...)
		assert.Equal(t, 1, code, args)
		assert.Equal(t, "invalidator: some keys stay parked: mend what refuses them, and retry; or forget them with --drop\n", errs)
	}
	code, out, errs = o.ask("parked", "--drop")
	assert.Equal(t, 0, code, errs)
	assert.Equal(t, "3 keys forgotten, 0 stay parked: what is cached under the forgotten ones may be stale until it expires or is deleted\n", out)
	_, page := o.get(t, "/metrics")
	assert.Contains(t, page, `invalidator_parked_keys{source="shop"} 0`)
}

func TestAPurgeThatHasBegunGoesOnAfterAReload(t *testing.T) {
	t.Parallel()
	o, _, admin := ownRedis(t)
	text, err := os.ReadFile(o.file)
	require.NoError(t, err)
	rate := func(perSecond int) {
		o.changes(string(text), "namespace:", fmt.Sprintf("purge_rate: %d\nnamespace:", perSecond))
		code, out, errs := o.ask("reload")
		require.Equal(t, []any{0, "restarted: shop\n"}, []any{code, out}, errs)
		require.Eventually(t, func() bool { status, _ := o.get(t, "/readyz"); return status == 200 }, 20*time.Second, 20*time.Millisecond, o)
	}
	slowly := func(pattern string) *program {
		rate(10)
		for i := range 300 { // half a minute
			require.NoError(t, admin.Set(t.Context(), fmt.Sprint(strings.TrimSuffix(pattern, "*"), i), "x", 0).Err())
		}
		p := o.begin("purge", pattern)
		p.says(t, "shop: purges "+pattern)
		return p
	}
	gone := func(pattern string) bool { return len(admin.Keys(t.Context(), pattern).Val()) == 0 }

	followed := slowly("em:*")
	rate(100_000)
	assert.Equal(t, 0, followed.end(t), followed)
	assert.Contains(t, followed.output(), "shop: done: ")
	assert.True(t, gone("em:*"))

	interrupted := slowly("order:*")
	require.NoError(t, interrupted.cmd.Process.Signal(os.Interrupt))
	assert.Equal(t, 1, interrupted.end(t))
	assert.False(t, gone("order:*"))
	rate(100_000)
	require.Eventually(t, func() bool { return gone("order:*") }, 20*time.Second, 20*time.Millisecond, o)
	assert.NotContains(t, o.output(), "a purge by hand is not done")

	stopped := slowly("item:*")
	require.NoError(t, o.cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, 0, o.end(t))
	assert.Equal(t, 1, stopped.end(t))
	assert.Regexp(t, "invalidator: shop: the (daemon stops|source was stopped before it was done)", stopped.output())
	assert.Contains(t, o.output(), `level=WARN msg="a purge by hand is not done, and not remembered: ask for it again" source=shop pattern=item:* reason="the source was stopped before it was done"`)
}
