package integration

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

// theBinary builds the real program once.
func theBinary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		dir, err := os.MkdirTemp("", "invalidator-test-") //nolint:usetesting // it outlives the test that builds it
		require.NoError(t, err)
		built.dir = dir
		out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "invalidator"), "../cmd/invalidator").CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	require.NotEmpty(t, built.dir)
	return filepath.Join(built.dir, "invalidator")
}

var built struct {
	once sync.Once
	dir  string // removed by TestMain
}

// program is a running invalidator.
type program struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	out bytes.Buffer
}

func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *program) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// start starts the program with a configuration, and kills it when the test
// ends.
func start(t *testing.T, config string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.CommandContext(context.WithoutCancel(t.Context()), theBinary(t), append(args, "--config", writeConfig(t, config))...)}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { p.kill() })
	return p
}

func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// freeze stops the program and returns when none of its threads runs any more, which is a little later than the signal.
func (p *program) freeze(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	require.Eventually(t, func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
		if err != nil || len(threads) == 0 {
			return false
		}
		for _, thread := range threads {
			if text, err := os.ReadFile(thread); err != nil || !bytes.Contains(text, []byte("State:\tT")) {
				return false
			}
		}
		return true
	}, 30*time.Second, time.Millisecond, "it goes on: %s", p)
}

// end waits for the program's own end and returns its exit code.
func (p *program) end(t *testing.T) int {
	t.Helper()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = p.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatalf("it does not end: %s", p.output())
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits until the output contains text.
func (p *program) says(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(p.output(), text) }, 30*time.Second, 5*time.Millisecond, "it does not say %q: %s", text, p)
}

func (p *program) String() string { return p.output() }

var listening = regexp.MustCompile(`http=(127\.0\.0\.1:\d+)`)

// get asks an admin page and returns its status and text.
func (p *program) get(t *testing.T, path string) (int, string) {
	t.Helper()
	p.says(t, "http=")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listening.FindStringSubmatch(p.output())[1]+path, nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	var text bytes.Buffer
	_, err = text.ReadFrom(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, text.String()
}

func (p *program) ready(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { status, _ := p.get(t, "/readyz"); return status == http.StatusOK }, 30*time.Second, 10*time.Millisecond, "never ready: %s", p)
}

func writeConfig(t *testing.T, config string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "invalidator.yaml")
	require.NoError(t, os.WriteFile(path, []byte(config), 0o600))
	return path
}

// yaml returns the configuration of the cache's MySQL source.
func (c *mysqlCache) yaml(more string) string {
	return fmt.Sprintf(`
namespace: %q
redis: { addrs: [%q] }
sources:
  - name: shop
    mysql: { hosts: [%q], user: %q, password: %q }
    rules:
      - { table: %s.users, keys: ["%s{id}", "%semail:{email}"] }
%s
http: { listen: "127.0.0.1:0" }
`, c.prefix+"inv", c.redis.Addr(), c.server.Addr(), c.server.User(), c.server.Password(), c.schema, c.prefix, c.prefix, more)
}

func TestSecondDeleteCatchesASlowReaderAndSurvivesAKill(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	c.exec("INSERT INTO users VALUES (1, 'a', NULL)")
	config := c.yaml("    second_delete: 1500ms")
	p := start(t, config, "run")
	p.ready(t)

	c.cache(1)
	c.exec("UPDATE users SET name = 'b'")
	c.awaitGone(1)
	c.cache(1) // a reader of a replica that lags, behind the first delete
	c.awaitGone(1)

	c.cache(1)
	c.exec("UPDATE users SET name = 'c'")
	c.awaitGone(1)
	p.kill() // between the two deletes
	c.cache(1)
	p = start(t, config, "run")
	c.awaitGone(1)
	c.cache(1)
	c.awaitGone(1) // both are repeated
	p.ready(t)
}

func TestDryRunShowsRowsAndKeysAndTouchesNothing(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	c.cache(1)
	redisAddr := c.redis.Addr()
	config := strings.Replace(c.yaml(""), redisAddr, "127.0.0.1:1", 1) // no Redis is needed
	p := start(t, config, "run", "--dry-run")
	p.says(t, "working")
	c.exec("INSERT INTO users VALUES (1, 'Ada', 'a@x')")
	c.exec("UPDATE users SET email = 'b@x' WHERE id = 1")
	p.says(t, "insert "+c.schema+".users id=1 name=Ada email=a@x → "+c.key(1)+" "+c.key("email:a@x"))
	p.says(t, "update "+c.schema+".users id=1 email=a@x→b@x → "+c.key(1)+" "+c.key("email:a@x")+" "+c.key("email:b@x"))
	assert.True(t, c.cached(1))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, 0, p.end(t))
	assert.Empty(t, c.rdb.Keys(t.Context(), c.prefix+"inv*").Val())
}

func TestUnreachableServersAreWaitedFor(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, servers.NewMySQL(t))
	c.server.Stop(t)
	p := start(t, c.yaml(""), "run")
	p.says(t, "state=waiting")
	status, text := p.get(t, "/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Contains(t, text, "shop: waiting: source: ")
	status, _ = p.get(t, "/healthz")
	assert.Equal(t, http.StatusOK, status)

	c.server.Start(t)
	p.ready(t)
	assert.Equal(t, 1, strings.Count(p.output(), "state=waiting"), "it says so once: %s", p)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, 0, p.end(t))
}

// Bad input gets one line that names the place and the remedy, no stack trace
// and no secret.
func TestBadInputGetsOneLine(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t-value"
	my, redis := servers.MySQL(t), servers.Redis(t)
	pg := servers.Postgres(t)
	noOutbox, _ := pg.Database(t)
	standby := servers.NewPostgres(t)
	standby.Exec(t, "bash", "-c", `touch "$PGDATA/standby.signal"`)
	standby.Stop(t)
	standby.Start(t)
	schema, db := my.Database(t)
	_, err := db.ExecContext(t.Context(), "CREATE TABLE users (id INT PRIMARY KEY, name TEXT)")
	require.NoError(t, err)
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { taken.Close() })

	head := fmt.Sprintf("namespace: bad-input\nredis: { addrs: [%q] }\n", redis.Addr())
	mysql := func(addr, password, rest string) string {
		return head + fmt.Sprintf("http: { listen: \"127.0.0.1:0\" }\nsources:\n  - name: shop\n    mysql: { hosts: [%q], user: %q, password: %q }\n%s", addr, my.User(), password, rest)
	}
	postgres := func(addr, password, database string) string {
		return head + fmt.Sprintf("http: { listen: \"127.0.0.1:0\" }\nsources:\n  - name: orders\n    postgres: { hosts: [%q], user: %q, password: %q, database: %q }\n    purge: [\"order:*\"]\n", addr, pg.User(), password, database)
	}
	rule := func(key string) string {
		return fmt.Sprintf("    rules:\n      - { table: %s.users, keys: [%q] }\n", schema, key)
	}
	for _, c := range []struct {
		name, config string
		exit         int
		want         []string
	}{
		{"unknown field", mysql(my.Addr(), secret, rule("user:{id}")) + "    tabel: x\n", 2, []string{"invalidator.yaml:", "sources[0]", "tabel"}},
		{"unknown placeholder", mysql(my.Addr(), my.Password(), rule("user:{nick}")), 1, []string{`rules[0].keys[0]`, `unknown column "nick"`, schema + ".users has id, name"}},
		{"no literal text", mysql(my.Addr(), secret, rule("{id}")), 2, []string{"invalidator.yaml:", "sources[0].rules[0].keys[0]", "no literal text"}},
		{"undefined variable", mysql(my.Addr(), "${NO_SUCH_VARIABLE}", rule("user:{id}")), 2, []string{"invalidator.yaml:", "sources[0].mysql.password", "NO_SUCH_VARIABLE"}},
		{"wrong mysql password", mysql(my.Addr(), secret, rule("user:{id}")), 1, []string{"check user and password"}},
		{"wrong postgres password", postgres(pg.Addr(), secret, noOutbox), 1, []string{"postgres", "check user"}},
		{"no outbox", postgres(pg.Addr(), pg.Password(), noOutbox), 1, []string{noOutbox, "invalidator migrate up"}},
		{"no database", postgres(pg.Addr(), pg.Password(), "no_such_db"), 1, []string{"no_such_db", "check database"}},
		{"standby", postgres(standby.Addr(), standby.Password(), "postgres"), 1, []string{"standby", "name the primary"}},
		{"port taken", strings.Replace(mysql(my.Addr(), my.Password(), rule("user:{id}")), "127.0.0.1:0", taken.Addr().String(), 1), 1, []string{"http.listen", taken.Addr().String(), "taken"}},
		{"statement format", mysql(servers.NewMySQL(t, "--binlog-format=STATEMENT").Addr(), my.Password(), rule("user:{id}")), 1, []string{"binlog_format = STATEMENT", "SET PERSIST binlog_format = ROW"}},
		{"no GTIDs", mysql(servers.NewMySQL(t, "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF").Addr(), my.Password(), rule("user:{id}")), 1, []string{"gtid_mode = OFF"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, c.config, "run")
			assert.Equal(t, c.exit, p.end(t), p)
			var lines []string
			for line := range strings.Lines(p.output()) {
				if strings.HasPrefix(line, "invalidator: ") {
					lines = append(lines, line)
				}
			}
			require.Len(t, lines, 1, p)
			for _, want := range c.want {
				assert.Contains(t, lines[0], want)
			}
			assert.NotContains(t, p.output(), secret)
			assert.NotContains(t, p.output(), "goroutine")
		})
	}
}
