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
	"slices"
	"strconv"
	"strings"
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
		"no command":         {nil, 2, "", `invalidator: expected one of "demo", "run", "check", "migrate", "keys", ... (invalidator --help lists the commands)` + "\n"},
		"an unknown command": {[]string{"rum"}, 2, "", `invalidator: unexpected argument rum, did you mean "run"? (invalidator --help lists the commands)` + "\n"},
		"an unknown flag":    {[]string{"run", "--dryrun"}, 2, "", `invalidator: unknown flag --dryrun, did you mean "--dry-run"? (invalidator --help lists the commands)` + "\n"},
		"no configuration":   {[]string{"run"}, 2, "", "invalidator: no configuration file: there is no invalidator.yaml and no /etc/invalidator/invalidator.yaml: write one, or name it with --config\n"},
		"no such file":       {[]string{"run", "-c", "none.yaml"}, 2, "", "invalidator: none.yaml: can not be read: no such file or directory\n"},
		"a bad configuration": {[]string{"run", "-c", "testdata/bad.yaml"}, 2, "", "invalidator: testdata/bad.yaml:2: redis.addrs[0]: is not host:port: write both, such as \"127.0.0.1:6379\"\n" +
			"invalidator: testdata/bad.yaml:3: sources: is missing: name at least one log to read, under mysql or postgres\n" +
			"invalidator: testdata/bad.yaml:4: unknown field \"name_space\": known here are namespace, redis, sources, purge_rate, http, show_keys\n"},

		"a check of none": {[]string{"check", "--json", "-c", "none.yaml"}, 2, "", "invalidator: none.yaml: can not be read: no such file or directory\n"},

		"a demo that loses too much": {[]string{"demo", "--lose=2"}, 2, "", "invalidator: --lose: 2 is not a share: give a number from 0 to 1, such as 0.2\n"},

		"keys":                  {[]string{"keys", good, "shop.users", `{"id": 1, "email": "a@x"}`}, 0, "user:1\nuser:email:a@x\n", ""},
		"an expected key":       {[]string{"keys", good, "--expect=user:1", "shop.users", `{"id": 1, "email": "a@x"}`}, 0, "user:1\nuser:email:a@x\n", ""},
		"a missing key":         {[]string{"keys", good, "--expect=user:2", "shop.users", `{"id": 1, "email": null}`}, 1, "user:1\n", "invalidator: user:2 is not among the keys that this row deletes: user:1\n"},
		"keys of another table": {[]string{"keys", good, "shop.orders", `{"id": 1}`}, 1, "", "invalidator: no rule matches the table \"shop.orders\": the rules are for shop.users\n"},
		"keys of a bad row":     {[]string{"keys", good, "shop.users", `1`}, 2, "", "invalidator: the row is not a JSON object of column to value, or of before and after to such objects\n"},

		"keys as JSON":                  {[]string{"keys", good, "--json", "shop.users", `{"id": 1, "email": "a@x"}`}, 0, "[\n  \"user:1\",\n  \"user:email:a@x\"\n]\n", ""},
		"no keys as JSON":               {[]string{"keys", good, "--json", "shop.users", `{"id": null, "email": null}`}, 0, "[]\n", ""},
		"a replay of nothing":           {[]string{"replay", good}, 2, "", "invalidator: say where the replay begins: --since 10m, or --from POSITION\n"},
		"a replay of two things":        {[]string{"replay", good, "--since=1m", "--from=x"}, 2, "", "invalidator: --since and --from can't be used together (invalidator --help lists the commands)\n"},
		"a replay into the future":      {[]string{"replay", good, "--since=-1m"}, 2, "", "invalidator: --since: -1m0s is negative: give how far back to begin, such as 10m\n"},
		"a purge of nothing":            {[]string{"purge", good}, 2, "", "invalidator: say what to purge: patterns such as 'user:*', or --all for those of the rules\n"},
		"a purge of all and some":       {[]string{"purge", good, "--all", "user:*"}, 2, "", "invalidator: say what to purge: patterns such as 'user:*', or --all for those of the rules\n"},
		"parked keys without a retry":   {[]string{"parked", good, "user:1"}, 2, "", "invalidator: keys are named to be retried or dropped: add --retry or --drop\n"},
		"parked keys, both":             {[]string{"parked", good, "--retry", "--drop"}, 2, "", "invalidator: --retry and --drop can't be used together (invalidator --help lists the commands)\n"},
		"no position":                   {[]string{"position", "set", good}, 2, "", "invalidator: say which position to set: --now, or one as position show prints it\n"},
		"two positions":                 {[]string{"position", "set", good, "--now", "x"}, 2, "", "invalidator: say which position to set: --now, or one as position show prints it\n"},
		"a position of several sources": {[]string{"position", "set", two, "--now"}, 2, "", "invalidator: --source: the configuration has several sources: choose one with --source: orders, stock\n"},
		"positions of an unknown one":   {[]string{"position", "show", two, "--source=shop"}, 2, "", "invalidator: --source: there is no source \"shop\": there is orders, stock\n"},
		"a bad address":                 {[]string{"status", "--addr=8377"}, 2, "", "invalidator: --addr: \"8377\" is neither host:port nor the path of a socket\n"},
		"an address that is not known":  {[]string{"status", good}, 1, "", "invalidator: the configuration lets the system choose the daemon's port: give the one in its log with --addr\n"},
		"no daemon":                     {[]string{"status", "--addr=127.0.0.1:1"}, 1, "", "invalidator: no daemon answers: is it running, and is 127.0.0.1:1 its http.listen or http.socket? connect: connection refused\n"},
		"no token file":                 {[]string{"purge", good, "user:*", "--addr=127.0.0.1:1", "--token-file=none"}, 2, "", "invalidator: --token-file: can not be read: open none: no such file or directory\n"},

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

// daemonThat answers every request with a status and a text, and notes the last
// request.
func daemonThat(t *testing.T, status int, text string) (address string, asked *http.Request, body *string) {
	t.Helper()
	asked, body = new(http.Request), new(string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		*asked, *body = *r, string(content)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), asked, body
}

func TestCommandsBearTheTokenOfTheFileTheEnvironmentOrTheConfiguration(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/token"
	require.NoError(t, os.WriteFile(file, []byte("of-a-file\n"), 0o600))
	for want, c := range map[string]struct{ args, env []string }{
		"Bearer of-a-file":          {[]string{"--token-file=" + file}, []string{"INVALIDATOR_TOKEN=of-the-environment"}},
		"Bearer of-the-environment": {nil, []string{"INVALIDATOR_TOKEN=of-the-environment"}},
		"Bearer hunter2-token":      {[]string{"--config=testdata/guarded.yaml"}, []string{"REDIS_PASSWORD="}},
		"":                          {nil, nil},
	} {
		address, asked, _ := daemonThat(t, 200, `{"parked": [], "deleted": 0}`)
		cmd := program(t, append([]string{"parked", "--retry", "--addr=" + address}, c.args...)...)
		cmd.Env = append(cmd.Env, c.env...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		assert.Equal(t, want, asked.Header.Get("Authorization"))
		assert.Equal(t, "0 keys deleted, 0 stay parked\n", string(out))
	}
}

func TestOverTheSocketNoTokenIsNeeded(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "inv") //nolint:usetesting // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", dir+"/s")
	require.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"parked": [], "deleted": `+strconv.Itoa(7+len(r.Header.Get("Authorization")))+`}`)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	text, err := os.ReadFile("testdata/guarded.yaml")
	require.NoError(t, err)
	file := dir + "/invalidator.yaml"
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(text), "hunter2-token", `"${NOT_SET}", socket: `+dir+"/s", 1)), 0o600))
	code, out, errs := invoke(t, "parked", "--retry", "--config="+file)
	assert.Equal(t, []any{0, "7 keys deleted, 0 stay parked\n", ""}, []any{code, out, errs})
}

func TestCommandsSendWhatTheFlagsSay(t *testing.T) {
	t.Parallel()
	const done = `{"event": "begun", "source": "shop", "pattern": "user:*", "cached": 12, "from": "p", "deleted": 0, "done": 0}
{"event": "progress", "source": "shop", "pattern": "user:*", "cached": 12, "scanned": 6, "deleted": 1, "done": 0.5}
{"event": "done", "source": "shop", "deleted": 3, "done": 1}
`
	const partly = `{"event": "incomplete", "source": "shop", "deleted": 3, "refused": "user:*: 2 keys were refused, and parked", "done": 1}` + "\n"
	const failed = `{"event": "failed", "source": "shop", "error": "another leads", "deleted": 0, "done": 0}` + "\n"
	const stuck = `{"parked": [{"source": "shop", "key": "***", "error": "NOPERM", "since": "2026-01-02T03:04:05Z"}], "deleted": 1, "left": 1}`
	const stuckRow = "SOURCE  SINCE                 KEY    ERROR\nshop    2026-01-02T03:04:05Z  \"***\"  NOPERM\n"
	const stays = "invalidator: some keys stay parked: mend what refuses them, and retry; or forget them with --drop\n"
	const dropped = `{"parked": [], "deleted": 0, "left": 0, "dropped": 2}`
	for _, c := range []struct {
		args         []string
		answer, body string
		code         int
		out, err     string
	}{
		{[]string{"replay", "--since=10m"}, done, `{"since":"10m0s"}`, 0, "shop: replays from p\nshop: done: 3 keys deleted again\n", ""},
		{[]string{"replay", "--from=p", "--source=shop"}, failed, `{"source":"shop","from":"p"}`, 1, "", "invalidator: shop: another leads\n"},
		{[]string{"replay", "--since=1m", "--json"}, failed, `{"since":"1m0s"}`, 1, failed, "invalidator: shop: another leads\n"},
		{[]string{"purge", "user:*", "order:*"}, done, `{"patterns":["user:*","order:*"]}`, 0, "shop: purges user:*: looks at 12 keys\nshop: done: 3 keys deleted\n", ""},
		{[]string{"purge", "--all"}, strings.SplitAfter(done, "\n")[0], `{"all":true}`, 1, "shop: purges user:*: looks at 12 keys\n", "invalidator: shop: the daemon went away before it was done: what had begun may go on\n"},
		{[]string{"parked", "--retry", "a", "b"}, stuck, `{"keys":["a","b"]}`, 1, "1 keys deleted, 1 stay parked\n" + stuckRow, stays},
		{[]string{"parked", "--retry", "a", "b", "--json"}, stuck, `{"keys":["a","b"]}`, 1, stuck, stays},
		{[]string{"parked", "--retry", "a"}, strings.Replace(stuck, `"left": 1`, `"left": 0`, 1), `{"keys":["a"]}`, 0, "1 keys deleted, 1 stay parked\n" + stuckRow, ""},
		{[]string{"parked", "--drop", "a", "b"}, dropped, `{"keys":["a","b"]}`, 0, "2 keys forgotten, 0 stay parked: what is cached under the forgotten ones may be stale until it expires or is deleted\n", ""},
		{[]string{"parked", "--drop", "--source=shop", "--json"}, dropped, `{"source":"shop"}`, 0, dropped, ""},
		{[]string{"purge", "user:*"}, partly, `{"patterns":["user:*"]}`, 1, "shop: done: 3 keys deleted\n", "invalidator: shop: not every key was deleted: user:*: 2 keys were refused, and parked: see invalidator parked\n"},
		{[]string{"purge", "user:*", "--json"}, partly, `{"patterns":["user:*"]}`, 1, partly, "invalidator: shop: not every key was deleted: user:*: 2 keys were refused, and parked: see invalidator parked\n"},
		{[]string{"reload"}, `{"started": ["a"], "restarted": [], "stopped": null, "unchanged": ["b", "c"]}`, `{}`, 0, "started: a\nunchanged: b, c\n", ""},
	} {
		address, _, body := daemonThat(t, 200, c.answer)
		code, out, err := invoke(t, append(c.args, "--addr="+address)...)
		assert.Equal(t, []any{c.code, c.err}, []any{code, err}, c.args)
		if slices.Contains(c.args, "--json") {
			assert.JSONEq(t, c.out, out)
		} else {
			assert.Equal(t, c.out, out)
		}
		assert.JSONEq(t, c.body, *body)
	}
}

func TestRefusalsOfTheDaemonAreOneLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status    int
		text, err string
	}{
		{401, `{"error": "the token is missing or wrong: give it"}`, "invalidator: the token is missing or wrong: give it\n"},
		{409, `{"error": "b/1 leads: ask that one", "leader": "b/1"}`, "invalidator: b/1 leads: ask that one\n"},
		{404, `<html>`, "is no invalidator, or another version of it: 404 Not Found\n"},
	} {
		address, _, _ := daemonThat(t, c.status, c.text)
		code, out, err := invoke(t, "purge", "user:*", "--addr="+address)
		assert.Equal(t, []any{1, ""}, []any{code, out})
		assert.Contains(t, err, c.err)
		assert.Equal(t, 1, strings.Count(err, "\n"))
	}
}

// Every secret of the file is hunter2-something, and nothing answers anywhere.
func TestNothingThatIsPrintedHoldsASecret(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"check"},
		{"check", "--json"},
		{"position", "show"},
		{"position", "set", "--now", "--source=shop"},
		{"position", "set", "hunter2-no-position", "--source=shop"},
		{"status"},
		{"parked", "--show-keys"},
		{"purge", "user:*"},
		{"reload"},
	} {
		code, out, err := invoke(t, append(args, "--config=testdata/guarded.yaml")...)
		assert.Equal(t, 1, code, args)
		assert.NotEmpty(t, out+err, args)
		assert.NotContains(t, out+err, "hunter2", args)
	}
}

func TestACheckNamesEachServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	code, out, err := invoke(t, "check", "--config=testdata/guarded.yaml")
	assert.Equal(t, []any{1, ""}, []any{code, err})
	assert.Contains(t, out, "fail  redis: sentinels  none names a master")
	for line := range strings.Lines(out) {
		assert.Regexp(t, "^(ok  |warn|fail)  (redis|shop|orders): ", line)
	}
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
