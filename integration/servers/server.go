package servers

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
)

// Server is a server in a container. Its methods fail the test when the engine refuses what they ask for.
type Server struct {
	engine *engine
	ctr    *testcontainers.DockerContainer
	port   int
}

// Addr returns the server's host:port, the same for all its life.
func (s *Server) Addr() string { return net.JoinHostPort(s.engine.host, strconv.Itoa(s.port)) }

// Host returns the host part of Addr.
func (s *Server) Host() string { return s.engine.host }

// Port returns the port part of Addr.
func (s *Server) Port() int { return s.port }

// Container returns the container itself, for what the other methods do not cover.
func (s *Server) Container() *testcontainers.DockerContainer { return s.ctr }

// Pause freezes the server: connections stay open and nothing answers.
func (s *Server) Pause(tb testing.TB) {
	tb.Helper()
	_, err := s.engine.ContainerPause(tb.Context(), s.ctr.ID, client.ContainerPauseOptions{})
	check(tb, err, "pause the server")
}

// Unpause lets a paused server go on.
func (s *Server) Unpause(tb testing.TB) {
	tb.Helper()
	_, err := s.engine.ContainerUnpause(tb.Context(), s.ctr.ID, client.ContainerUnpauseOptions{})
	check(tb, err, "unpause the server")
}

// Kill ends the server with SIGKILL, as a crash would, and returns when it is gone.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	gone := s.engine.ContainerWait(tb.Context(), s.ctr.ID, client.ContainerWaitOptions{Condition: "not-running"})
	_, err := s.engine.ContainerKill(tb.Context(), s.ctr.ID, client.ContainerKillOptions{Signal: "KILL"})
	check(tb, err, "kill the server")
	select {
	case <-gone.Result:
	case err := <-gone.Error:
		check(tb, err, "wait for the killed server")
	}
}

// Stop shuts the server down in order.
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	timeout := time.Minute
	check(tb, s.ctr.Stop(tb.Context(), &timeout), "stop the server")
}

// Start starts a killed or stopped server again, on the same address and data, and returns when it answers.
func (s *Server) Start(tb testing.TB) {
	tb.Helper()
	check(tb, s.ctr.Start(tb.Context()), "start the server")
}

// Exec runs a command in the container and returns what it printed to stdout and stderr. The test fails if its exit code is not 0.
func (s *Server) Exec(tb testing.TB, cmd ...string) string {
	tb.Helper()
	code, reader, err := s.ctr.Exec(tb.Context(), cmd, tcexec.Multiplexed())
	check(tb, err, "run a command in the container")
	out, err := io.ReadAll(reader)
	check(tb, err, "read the command's output")
	if code != 0 {
		tb.Fatalf("%q in the container: exit code %d: %s", cmd, code, out)
	}
	return string(out)
}

// cleanup removes the container when the test ends, whatever state the test left it in.
func (s *Server) cleanup(tb testing.TB) {
	tb.Helper()
	tb.Cleanup(func() { check(tb, s.remove(context.WithoutCancel(tb.Context())), "remove the server") })
}

func (s *Server) remove(ctx context.Context) error {
	// A paused container takes no signal; the error of one that is not paused means nothing.
	_, _ = s.engine.ContainerUnpause(ctx, s.ctr.ID, client.ContainerUnpauseOptions{})
	if err := testcontainers.TerminateContainer(s.ctr, testcontainers.StopContext(ctx), testcontainers.StopTimeout(0)); err != nil {
		return fmt.Errorf("remove container: %w", err)
	}
	return nil
}

func check(tb testing.TB, err error, doing string) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("%s: %v", doing, err)
	}
}
