package servers

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestContainersAreAbandonedWhenTheirProcessIsGone(t *testing.T) {
	t.Parallel()
	host, _, _ := strings.Cut(owner(), "/")
	of := func(pid int) string { return host + "/" + strconv.Itoa(pid) }

	child := exec.CommandContext(t.Context(), "cat")
	in, err := child.StdinPipe() // cat ends when this closes
	require.NoError(t, err)
	require.NoError(t, child.Start())

	assert.False(t, abandoned(of(child.Process.Pid)), "running")
	require.NoError(t, in.Close())
	if runtime.GOOS == "linux" {
		assert.Eventually(t, func() bool { return abandoned(of(child.Process.Pid)) }, 10*time.Second, time.Millisecond, "a zombie")
	}
	require.NoError(t, child.Wait())
	assert.True(t, abandoned(of(child.Process.Pid)), "gone")

	assert.True(t, abandoned(owner()), "a predecessor with our id")
	assert.False(t, abandoned(of(os.Getppid())), "another that runs")
	assert.False(t, abandoned("elsewhere/1"), "of another host")
	assert.False(t, abandoned("nonsense"))
}
