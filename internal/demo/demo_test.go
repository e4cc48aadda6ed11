package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lastLine is what programs read: its form stays.
var lastLine = regexp.MustCompile(`^writes=\d+ deletes_lost=\d+ repaired=\d+ stale_now=\d+ stale_max_age_ms=\d+$`)

// run runs the demo headless and returns what it counted by its last line.
func run(t *testing.T, o Options) (counted numbers, out string, err error) {
	t.Helper()
	var buffer bytes.Buffer
	o.Headless, o.Out = true, &buffer
	err = Run(t.Context(), o)
	lines := strings.Split(strings.TrimSpace(buffer.String()), "\n")
	last := lines[len(lines)-1]
	require.Regexp(t, lastLine, last)
	var ms int
	_, scanErr := fmt.Sscanf(last, "writes=%d deletes_lost=%d repaired=%d stale_now=%d stale_max_age_ms=%d",
		&counted.writes, &counted.deletesLost, &counted.repaired, &counted.staleNow, &ms)
	require.NoError(t, scanErr)
	return counted, buffer.String(), err
}

func TestWithTheRelayNothingStaysStale(t *testing.T) {
	t.Parallel()
	n, out, err := run(t, Options{Duration: 1500 * time.Millisecond, Lose: 0.5})
	require.NoError(t, err)
	assert.Positive(t, n.writes)
	assert.Positive(t, n.deletesLost)
	assert.Less(t, n.deletesLost, n.writes)
	assert.Positive(t, n.repaired)
	assert.Zero(t, n.staleNow)
	assert.True(t, strings.HasPrefix(out, "demo: "), out)
	assert.Contains(t, out, "\n1s writes=")
}

func TestTheRelayMakesUpForEveryDelete(t *testing.T) {
	t.Parallel()
	n, _, err := run(t, Options{Duration: time.Second, Lose: 1})
	require.NoError(t, err)
	assert.Equal(t, n.writes, n.deletesLost)
	assert.Zero(t, n.staleNow)
}

func TestWithoutTheRelayEntriesStayStale(t *testing.T) {
	t.Parallel()
	n, _, err := run(t, Options{Duration: time.Second, Lose: 0.5, NoDaemon: true})
	require.ErrorIs(t, err, ErrStale)
	require.ErrorContains(t, err, "this is what happens without the daemon")
	assert.Positive(t, n.staleNow)
	assert.Zero(t, n.repaired)
}

func TestWithoutFaultsNothingIsLostAndNothingIsStale(t *testing.T) {
	t.Parallel()
	n, _, err := run(t, Options{Duration: time.Second, NoDaemon: true})
	require.NoError(t, err)
	assert.Positive(t, n.writes)
	assert.Zero(t, n.deletesLost)
	assert.Zero(t, n.staleNow)
}

// live is a demo that runs until its test stops it.
type live struct {
	cancel context.CancelFunc
	out    *io.PipeReader
	ended  chan error
}

// start returns a running demo and its first line.
func start(t *testing.T, o Options) (l *live, first string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	o.Out = w
	l = &live{cancel: cancel, out: r, ended: make(chan error, 1)}
	go func() {
		err := Run(ctx, o)
		_ = w.CloseWithError(io.EOF)
		l.ended <- err
	}()
	buffer := make([]byte, 4096)
	n, err := r.Read(buffer) // a line is one write
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, r) }()
	return l, string(buffer[:n])
}

func (l *live) stop() error {
	l.cancel()
	return <-l.ended
}

func TestThePageShowsTheNumbers(t *testing.T) {
	t.Parallel()
	l, first := start(t, Options{Listen: "127.0.0.1:0"})
	url := regexp.MustCompile(`http://\S+/`).FindString(first)
	require.NotEmpty(t, url, first)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, answer.StatusCode)
	assert.Regexp(t, `(?s)writes=\d+\nreads=\d+\ndeletes_lost=\d+\nrepaired=\d+\nstale_now=\d+\noldest_ms=\d+\n`, string(text))
	require.NoError(t, l.stop())
}

func TestWhenStoppedItFinishesAndLeavesNoFiles(t *testing.T) {
	t.Parallel()
	l, first := start(t, Options{Headless: true, Lose: 0.5})
	dir := regexp.MustCompile(`SQLite \((.+?)\)`).FindStringSubmatch(first)
	require.Len(t, dir, 2, first)
	require.DirExists(t, dir[1])
	require.NoError(t, l.stop())
	_, err := os.Stat(dir[1])
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestATakenPortIsOneClearLine(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	err = Run(t.Context(), Options{Listen: taken.Addr().String()})
	require.ErrorContains(t, err, "the address "+taken.Addr().String()+" is taken")
	require.ErrorContains(t, err, "--listen")
	assert.NotContains(t, err.Error(), "\n")
}

func TestWrongOptionsAreRefusedAllAtOnce(t *testing.T) {
	t.Parallel()
	err := Run(t.Context(), Options{Lose: math.NaN(), Duration: -time.Second, Listen: "8080"})
	for _, want := range []string{"--lose: NaN", "--duration: -1s", `--listen: "8080"`} {
		require.ErrorContains(t, err, want)
	}
	for _, lose := range []float64{-0.1, 1.1} {
		require.ErrorContains(t, Options{Lose: lose}.Check(), "--lose")
	}
	require.NoError(t, Options{Lose: 1}.Check())
}
