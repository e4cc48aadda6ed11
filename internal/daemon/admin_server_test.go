package daemon

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shortDir is t.TempDir, which is too long for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "inv") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestTheSocketTakesCommandsWithoutATokenFromItsOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	path := filepath.Join(dir, "s")
	left, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	require.NoError(t, err)
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, left.Close()) // as after a kill

	pages := newCommanded(t)
	pages.guard = newGuard(HTTP{Socket: path})
	server, err := startAdmin(t.Context(), HTTP{Listen: "127.0.0.1:0", Socket: path}, pages.admin)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	overSocket, err := NewClient(path, Secret{})
	require.NoError(t, err)
	answer, err := overSocket.Post(t.Context(), "/parked/retry", ParkedRequest{})
	require.NoError(t, err)
	assert.Contains(t, string(answer), `"deleted": 0`)
	overTCP, err := NewClient(server.addr(), Secret{})
	require.NoError(t, err)
	_, err = overTCP.Post(t.Context(), "/parked/retry", ParkedRequest{})
	require.EqualError(t, err, "this daemon takes no commands over TCP, because no token is set: use the socket "+path+", or set http.token_file in its configuration")
	_, err = overTCP.Get(t.Context(), "/status", nil)
	require.NoError(t, err, "what changes nothing is open")

	_, err = startAdmin(t.Context(), HTTP{Listen: "127.0.0.1:0", Socket: path}, pages.admin)
	require.EqualError(t, err, "http.socket: "+path+" is taken: is another invalidator running? stop it, or set http.socket to another path")
	server.stop()
	assert.NoFileExists(t, path)
	_, err = overSocket.Get(t.Context(), "/status", nil)
	require.ErrorContains(t, err, "no daemon answers: is it running, and is "+path+" its http.listen or http.socket?")
	assert.Equal(t, 1, strings.Count(err.Error(), path), "said once")

	require.NoError(t, os.WriteFile(path, []byte("a file"), 0o600))
	_, err = startAdmin(t.Context(), HTTP{Listen: "127.0.0.1:0", Socket: path}, pages.admin)
	require.EqualError(t, err, "http.socket: "+path+" is there and is no socket: remove it, or set http.socket to another path")
	_, err = startAdmin(t.Context(), HTTP{Listen: "127.0.0.1:0", Socket: dir + "/none/s"}, pages.admin)
	require.EqualError(t, err, "http.socket: can not listen on "+dir+"/none/s: set http.socket to a path in a directory that this user can write to: no such file or directory")
}

func TestNobodyElseCanEverConnectToTheSocket(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere the mode is set a moment later")
	}
	path := filepath.Join(shortDir(t), "s")
	socket, err := (&net.ListenConfig{Control: private}).Listen(t.Context(), "unix", path)
	require.NoError(t, err)
	defer socket.Close()
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "from the moment on that it is there")
}

func TestAStreamReachesTheClientLineByLine(t *testing.T) {
	t.Parallel()
	pages := fuzzed(t)
	server, err := startAdmin(t.Context(), HTTP{Listen: "127.0.0.1:0"}, pages.admin)
	require.NoError(t, err)
	defer server.stop()
	client, err := NewClient(server.addr(), NewSecret(testToken))
	require.NoError(t, err)
	var got []string
	require.NoError(t, client.Follow(t.Context(), "/replay", ReplayRequest{Since: "1m"}, func(p Progress) { got = append(got, p.Event) }))
	assert.Equal(t, []string{ProgressBegun, ProgressDone}, got)
	err = client.Follow(t.Context(), "/replay", ReplayRequest{From: "nonsense"}, func(Progress) {})
	require.EqualError(t, err, `shop: "nonsense" is no position: login ***`)

	asked := make(chan struct{})
	pages.cache.rewound = func() { close(asked) }
	go func() {
		<-asked
		server.stop()
	}()
	err = client.Follow(t.Context(), "/replay", ReplayRequest{Since: "1m"}, func(Progress) {})
	require.Error(t, err, "the daemon went away")

	_, err = NewClient("8377", Secret{})
	require.EqualError(t, err, `"8377" is neither host:port nor the path of a socket`)
}
