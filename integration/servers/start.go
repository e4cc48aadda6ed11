package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	startTimeout = 10 * time.Minute      // a first pull of an image may take its time
	readyTimeout = 2 * time.Minute       // from a started container to an answer
	probeTimeout = 2 * time.Second       // one attempt to connect
	pollInterval = 50 * time.Millisecond // between two attempts
	hint         = `; where no image can be pulled, eval "$(integration/images/ensure)" builds them`
)

// spec says what differs between the kinds of servers.
type spec struct {
	imageVariable string
	image         string // unless imageVariable is set
	port          string // in the container; "" when nodes is set
	nodes         int    // how many ports to publish under their own numbers, for several servers in one container
	cmd           []string
	files         func(ports []int) []testcontainers.ContainerFile // what is put into the container before it starts; ports are the published ones
	env           map[string]string
	probe         func(ctx context.Context, addr string) error // nil when the server at addr answers
}

func (s spec) start(ctx context.Context) (*Server, error) {
	e, err := theEngine.get(ctx)
	if err != nil {
		return nil, err
	}
	image, found := os.LookupEnv(s.imageVariable)
	if !found || image == "" {
		image = s.image
	}
	for attempt := 1; ; attempt++ {
		server, err := s.run(ctx, e, image)
		switch {
		case err == nil:
			return server, nil
		case portTaken(err) && attempt < 5: // somebody was faster; take another port
		case found:
			return nil, fmt.Errorf("start %s: %w", image, err)
		default:
			return nil, fmt.Errorf("start %s: %w%s", image, err, hint)
		}
	}
}

func (s spec) run(ctx context.Context, e *engine, image string) (*Server, error) {
	ports, err := freePorts(ctx, max(1, s.nodes))
	if err != nil {
		return nil, err
	}
	inside, bindings, err := s.publish(e, ports)
	if err != nil {
		return nil, fmt.Errorf("port of %s: %w", image, err)
	}
	var files []testcontainers.ContainerFile
	if s.files != nil {
		files = s.files(ports)
	}
	server := &Server{engine: e, port: ports[0]}
	ctr, err := testcontainers.Run(ctx, image,
		testcontainers.WithCmd(s.cmd...),
		testcontainers.WithEnv(s.env),
		testcontainers.WithLabels(map[string]string{ownerLabel: owner()}),
		testcontainers.WithFiles(files...),
		testcontainers.WithExposedPorts(inside...),
		testcontainers.WithHostConfigModifier(func(hc *container.HostConfig) { hc.PortBindings = bindings }),
		testcontainers.WithWaitStrategyAndDeadline(readyTimeout, &ready{addr: server.Addr(), probe: s.probe}),
	)
	server.ctr = ctr
	if err != nil && ctr != nil {
		err = errors.Join(err, server.remove(context.WithoutCancel(ctx)))
	}
	if err != nil {
		return nil, err
	}
	return server, nil
}

// publish maps ports of the host to the container: the first to s.port, or each to its own number.
func (s spec) publish(e *engine, ports []int) (inside []string, bindings network.PortMap, err error) {
	bindings = network.PortMap{}
	for _, port := range ports {
		name := s.port
		if s.nodes > 0 {
			name = strconv.Itoa(port) + "/tcp"
		}
		parsed, err := network.ParsePort(name)
		if err != nil {
			return nil, nil, err
		}
		inside = append(inside, name)
		bindings[parsed] = []network.PortBinding{{HostIP: e.bind, HostPort: strconv.Itoa(port)}}
	}
	return inside, bindings, nil
}

// picked remembers every port that this process was ever given: while a server is down its port looks free, and has to be when it comes
// back.
//
//nolint:gochecknoglobals // ports are the machine's, and tests run side by side
var picked sync.Map

// freePorts picks free ports below the range that the system gives to outgoing connections: those of the clients under test, which
// keep trying while a server is away, must not take one (nor connect to themselves on it).
func freePorts(ctx context.Context, n int) ([]int, error) {
	var lc net.ListenConfig
	var ports []int
	for len(ports) < n {
		port := 20000 + rand.IntN(12000) //nolint:gosec // nobody guesses ports here
		l, err := lc.Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(port)))
		if err == nil {
			_ = l.Close()
			if _, before := picked.LoadOrStore(port, true); !before {
				ports = append(ports, port)
			}
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("find a free port: %w", ctx.Err())
		}
	}
	return ports, nil
}

func portTaken(err error) bool {
	return strings.Contains(err.Error(), "port is already allocated") || strings.Contains(err.Error(), "address already in use")
}

// ready waits until a server answers on its published address. Log lines differ between images; an answer does not.
type ready struct {
	addr  string
	probe func(ctx context.Context, addr string) error
}

// WaitUntilReady implements [wait.Strategy]. It gives up when the container is not running any more or ctx ends.
func (r *ready) WaitUntilReady(ctx context.Context, target wait.StrategyTarget) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := r.attempt(ctx)
		if err == nil {
			return nil
		}
		state, stateErr := target.State(ctx)
		if stateErr == nil && !state.Running {
			return fmt.Errorf("the container is %s (exit code %d): %s", state.Status, state.ExitCode, lastLogs(ctx, target))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer on %s: %w (%w): %s", r.addr, ctx.Err(), err, lastLogs(ctx, target))
		case <-ticker.C:
		}
	}
}

// String says in logs and errors what is waited for.
func (r *ready) String() string { return "an answer on " + r.addr }

func (r *ready) attempt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return r.probe(ctx, r.addr)
}

func lastLogs(ctx context.Context, target wait.StrategyTarget) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	logs, err := target.Logs(ctx)
	if err != nil {
		return "no logs: " + err.Error()
	}
	defer logs.Close()
	all, err := io.ReadAll(logs)
	if err != nil && len(all) == 0 {
		return "no logs: " + err.Error()
	}
	const keep = 2000
	return string(bytes.TrimSpace(all[max(0, len(all)-keep):]))
}
