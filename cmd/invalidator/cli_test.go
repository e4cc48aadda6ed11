package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// asProgram makes the test binary behave as the program itself.
const asProgram = "INVALIDATOR_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// program returns the program, as a process of its own, with these arguments.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "REDIS_PASSWORD=hunter2", "MYSQL_PASSWORD=hunter2")
	return cmd
}

// invoke runs the program to its end.
func invoke(t *testing.T, args ...string) (code int, out, err string) {
	t.Helper()
	cmd := program(t, args...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func TestExitCodesAndMessages(t *testing.T) {
	t.Parallel()
	const good, two = "--config=testdata/good.yaml", "--config=testdata/two_outboxes.yaml"
	cases := map[string]struct {
		args     []string
		code     int
		out, err string
	}{
		"no command":         {nil, 2, "", `invalidator: expected one of "demo", "run", "migrate", "keys", "health", ... (invalidator --help lists the commands)` + "\n"},
		"an unknown command": {[]string{"rum"}, 2, "", `invalidator: unexpected argument rum, did you mean "run"? (invalidator --help lists the commands)` + "\n"},
		"an unknown flag":    {[]string{"run", "--dryrun"}, 2, "", `invalidator: unknown flag --dryrun, did you mean "--dry-run"? (invalidator --help lists the commands)` + "\n"},
		"no configuration":   {[]string{"run"}, 2, "", "invalidator: no configuration file: there is no invalidator.yaml and no /etc/invalidator/invalidator.yaml: write one, or name it with --config\n"},
		"no such file":       {[]string{"run", "-c", "none.yaml"}, 2, "", "invalidator: none.yaml: can not be read: no such file or directory\n"},
		"a bad configuration": {[]string{"run", "-c", "testdata/bad.yaml"}, 2, "", "invalidator: testdata/bad.yaml:2: redis.addrs[0]: is not host:port: write both, such as \"127.0.0.1:6379\"\n" +
			"invalidator: testdata/bad.yaml:3: sources: is missing: name at least one log to read, under mysql or postgres\n" +
			"invalidator: testdata/bad.yaml:4: unknown field \"name_space\": known here are namespace, redis, sources, purge_rate, http, show_keys\n"},

		"a demo that loses too much": {[]string{"demo", "--lose=2"}, 2, "", "invalidator: --lose: 2 is not a share: give a number from 0 to 1, such as 0.2\n"},

		"keys":                  {[]string{"keys", good, "shop.users", `{"id": 1, "email": "a@x"}`}, 0, "user:1\nuser:email:a@x\n", ""},
		"an expected key":       {[]string{"keys", good, "--expect=user:1", "shop.users", `{"id": 1, "email": "a@x"}`}, 0, "user:1\nuser:email:a@x\n", ""},
		"a missing key":         {[]string{"keys", good, "--expect=user:2", "shop.users", `{"id": 1, "email": null}`}, 1, "user:1\n", "invalidator: user:2 is not among the keys that this row deletes: user:1\n"},
		"keys of another table": {[]string{"keys", good, "shop.orders", `{"id": 1}`}, 1, "", "invalidator: no rule matches the table \"shop.orders\": the rules are for shop.users\n"},
		"keys of a bad row":     {[]string{"keys", good, "shop.users", `1`}, 2, "", "invalidator: the row is not a JSON object of column to value, or of before and after to such objects\n"},

		"migrate without a postgres source": {[]string{"migrate", "up", good}, 2, "", "invalidator: the configuration has no postgres source, and only those have an outbox\n"},
		"migrate with several":              {[]string{"migrate", "up", two}, 2, "", "invalidator: the configuration has several postgres sources: choose one with --source: orders, stock\n"},
		"migrate with an unknown one":       {[]string{"migrate", "status", two, "--source=shop"}, 2, "", "invalidator: --source: there is no postgres source \"shop\": there is orders, stock\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, err := invoke(t, c.args...)
			assert.Equal(t, c.code, code)
			assert.Equal(t, c.out, out)
			assert.Equal(t, c.err, err)
		})
	}
}

func TestHelpVersionAndSchemaGoToStdout(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"Usage: invalidator <command>": {"--help"},
		"Usage: invalidator run":       {"run", "--help"},
		"invalidator ":                 {"version"},
		"CREATE SCHEMA":                {"migrate", "print"},
	} {
		code, out, err := invoke(t, args...)
		assert.Equal(t, 0, code)
		assert.Empty(t, err)
		assert.Contains(t, out, want)
	}
}

func TestMigrateSaysInOneLineThatNoServerAnswers(t *testing.T) {
	t.Parallel()
	code, _, err := invoke(t, "migrate", "up", "--config=testdata/two_outboxes.yaml", "--source=orders")
	assert.Equal(t, 1, code)
	assert.Equal(t, 1, strings.Count(err, "\n"), err)
	assert.Contains(t, err, "connection refused")
	assert.NotContains(t, err, "hunter2")
}

func TestHealthAsksTheDaemon(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, "shop: waiting\n")
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")

	code, out, err := invoke(t, "health", "--addr="+address)
	assert.Equal(t, []any{0, "shop: waiting\n", ""}, []any{code, out, err})
	status.Store(http.StatusServiceUnavailable)
	code, out, err = invoke(t, "health", "--addr="+address)
	assert.Equal(t, []any{1, "", "invalidator: not ready\ninvalidator: shop: waiting\n"}, []any{code, out, err})
	server.Close()
	code, _, err = invoke(t, "health", "--addr="+address)
	assert.Equal(t, 1, code)
	assert.Contains(t, err, "invalidator: no daemon answers: is it running")
}

// started runs the daemon until it has logged that it runs.
func started(t *testing.T, args ...string) (cmd *exec.Cmd, log *bufio.Reader) {
	t.Helper()
	cmd = program(t, append([]string{"run", "--config=testdata/good.yaml"}, args...)...)
	pipe, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	log = bufio.NewReader(pipe)
	line, err := log.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "started")
	return cmd, log
}

func TestASignalStopsTheDaemonWithCodeZero(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd, log := started(t)
		require.NoError(t, cmd.Process.Signal(signal))
		begin := time.Now()
		rest, err := io.ReadAll(log)
		require.NoError(t, err)
		require.NoError(t, cmd.Wait())
		assert.Less(t, time.Since(begin), 5*time.Second)
		assert.NotContains(t, string(rest), "hunter2")
	}
}

func TestATakenAddressEndsTheDaemonWithOneLine(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	text, err := os.ReadFile("testdata/good.yaml")
	require.NoError(t, err)
	file := t.TempDir() + "/invalidator.yaml"
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(text), "127.0.0.1:0", taken.Addr().String(), 1)), 0o600))
	code, _, stderr := invoke(t, "run", "--config="+file)
	assert.Equal(t, 1, code)
	assert.Equal(t, "invalidator: http.listen: the address "+taken.Addr().String()+" is taken: is another invalidator running? stop it, or set http.listen to another port\n", stderr)
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	env := func(string) (string, bool) { return "x", true }
	assert.Equal(t, 0, run(ctx, []string{"run", "--dry-run", "--config=testdata/good.yaml"}, streams{out: io.Discard, err: io.Discard}, env))
}
