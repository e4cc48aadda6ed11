package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

// ownerLabel marks our containers with "host/pid" of the test process that started them.
const ownerLabel = "invalidator.test.owner"

var errNoEngine = errors.New("no Docker engine answers: install and start one, or run 'go test -short ./...' for the unit tests")

// engine is the Docker engine and how this process reaches the ports it publishes.
type engine struct {
	client.APIClient

	host string     // where published ports are reached
	bind netip.Addr // where they are published
}

// connect finds the engine and removes what a test run that was killed has left on it.
func connect(ctx context.Context) (*engine, error) {
	e, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.removeLeftovers(ctx); err != nil {
		return nil, fmt.Errorf("remove containers of an earlier test run: %w", err)
	}
	return e, nil
}

func dial(ctx context.Context) (e *engine, err error) {
	defer func() {
		if recover() != nil { // testcontainers panics when it knows no address of an engine
			e, err = nil, errNoEngine
		}
	}()
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", errNoEngine, firstLine(err))
	}
	host, err := provider.DaemonHost(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the Docker engine's address: %w", err)
	}
	bind := netip.IPv4Unspecified()
	if host == "localhost" || host == "127.0.0.1" {
		host, bind = "127.0.0.1", netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return &engine{APIClient: provider.Client(), host: host, bind: bind}, nil
}

func (e *engine) removeLeftovers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	found, err := e.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", ownerLabel)})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	for _, c := range found.Items {
		if !abandoned(c.Labels[ownerLabel]) {
			continue
		}
		if err := e.removeContainer(ctx, c.ID); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) removeContainer(ctx context.Context, id string) error {
	_, err := e.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil {
		return fmt.Errorf("remove container %.12s: %w", id, err)
	}
	return nil
}

// owner names this process in ownerLabel.
func owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// abandoned reports whether the process behind a label is gone. Our own name counts as well: this process looks before it starts any
// container, so a predecessor had the same id. Processes of other hosts are left alone.
func abandoned(label string) bool {
	if label == owner() {
		return true
	}
	host, id, _ := strings.Cut(label, "/")
	ours, _, _ := strings.Cut(owner(), "/")
	pid, err := strconv.Atoi(id)
	if host != ours || err != nil || pid <= 0 {
		return false
	}
	return !alive(pid)
}

// alive reports whether a process of this host runs. One that nobody has waited for yet (a zombie, where /proc tells) does not.
func alive(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		// The state follows the name, which stands in parentheses and may contain some itself.
		_, state, _ := strings.Cut(string(stat[max(0, bytes.LastIndexByte(stat, ')')):]), ") ")
		return !strings.HasPrefix(state, "Z")
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	err = process.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, os.ErrPermission)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
