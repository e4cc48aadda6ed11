package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHealthAsksTheDaemon(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(int(status.Load()))
		if r.URL.Query().Get("json") == "true" {
			_, _ = io.WriteString(w, `{"ready": `+strconv.FormatBool(status.Load() == http.StatusOK)+"}\n")
			return
		}
		_, _ = io.WriteString(w, "shop: waiting\n")
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")

	code, out, err := invoke(t, "health", "--addr="+address)
	assert.Equal(t, []any{0, "shop: waiting\n", ""}, []any{code, out, err})
	status.Store(http.StatusServiceUnavailable)
	code, out, err = invoke(t, "health", "--addr="+address)
	assert.Equal(t, []any{1, "", "invalidator: not ready\ninvalidator: shop: waiting\n"}, []any{code, out, err})
	code, out, err = invoke(t, "health", "--json", "--addr="+address)
	assert.Equal(t, []any{1, "{\"ready\": false}\n", "invalidator: not ready\n"}, []any{code, out, err})
	status.Store(http.StatusOK)
	code, out, err = invoke(t, "health", "--json", "--addr="+address)
	assert.Equal(t, []any{0, "{\"ready\": true}\n", ""}, []any{code, out, err})
	server.Close()
	code, _, err = invoke(t, "health", "--addr="+address)
	assert.Equal(t, 1, code)
	assert.Contains(t, err, "invalidator: no daemon answers: is it running")
}

func TestStatusIsATable(t *testing.T) {
	t.Parallel()
	page := `{"sources": [
		{"name": "shop", "kind": "mysql", "state": "running", "ready": true, "role": "leading", "leader": "me", "position": "uuid:1-7", "oldest_undeleted_seconds": 0.25, "lag": {"transactions": 3, "bytes": -1}, "parked": 1, "deleted": 9, "purged": 4, "restarts": 2},
		{"name": "orders", "kind": "postgres", "state": "standby", "reason": "b/1 leads", "role": "standby", "leader": "b/1", "position": "` + strings.Repeat("x", 60) + `"}]}`
	address, _, _ := daemonThat(t, 200, page)
	code, out, err := invoke(t, "status", "--addr="+address)
	assert.Equal(t, []any{0, ""}, []any{code, err})
	assert.Equal(t, `SOURCE  KIND      STATE    LEADER    POSITION                                           OLDEST UNDELETED  LAG   PARKED  DELETED  PURGED  RESTARTS
shop    mysql     running  this one  uuid:1-7                                           250ms             3 tx  1       9        4       2
orders  postgres  standby  b/1       xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…  -                 -     0       0        0       0
orders: b/1 leads
`, out)
	code, out, err = invoke(t, "status", "--json", "--addr="+address)
	assert.Equal(t, []any{0, page, ""}, []any{code, out, err})
}

// A daemon that is watched is started again now and then.
func TestAWatchGoesOnWhileNoDaemonAnswers(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	asked := 0
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked == 2 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{"sources": [{"name": "shop`+strconv.Itoa(asked)+`", "reason": "asked"}]}`)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	cmd := program(t, "status", "--watch", "--addr="+address)
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(pipe)
	last := ""
	for last != "shop3: asked" && lines.Scan() {
		last = lines.Text()
	}
	assert.Equal(t, "shop3: asked", last)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait())
	assert.Equal(t, "invalidator: "+address+" took the request and did not answer it (it closed the connection): see its log, and invalidator status\n", stderr.String())

	code, _, errs := invoke(t, "status", "--watch", "--addr=127.0.0.1:1")
	assert.Equal(t, 1, code, "one that never answered")
	assert.Contains(t, errs, "no daemon answers")
}
