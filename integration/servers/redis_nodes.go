package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/testcontainers/testcontainers-go"
)

const (
	answerTimeout = 500 * time.Millisecond // one question to a node that may be dead or frozen
	settleTimeout = 30 * time.Second       // until nodes have found each other, or one was promoted
	pollTopology  = 10 * time.Millisecond

	replicationUser = "replication" // what replicas log in as, so that a test can refuse just them
)

// Node is one server of a [Sentinel] or [Cluster] topology, or one of the Sentinels. All nodes of a topology live in one container and
// see each other under the addresses that the test uses.
type Node struct {
	owner    *nodes
	port     int
	sentinel bool
	running  bool
}

// nodes are the servers in one container.
type nodes struct {
	settings
	*Server

	all []*Node
}

// Addr returns the node's host:port, the same for all its life.
func (n *Node) Addr() string { return net.JoinHostPort(n.owner.Host(), strconv.Itoa(n.port)) }

// Port returns the port part of Addr.
func (n *Node) Port() int { return n.port }

// Dir returns the directory in the container that the node works in and writes its data to.
func (n *Node) Dir() string { return dirOf(n.port) }

// String returns Addr.
func (n *Node) String() string { return n.Addr() }

// Exec runs a shell script in the node's directory and returns what it printed. The test fails if its exit code is not 0.
func (n *Node) Exec(tb testing.TB, script string) string {
	tb.Helper()
	return n.owner.Exec(tb, "sh", "-c", "cd "+n.Dir()+" && "+script)
}

// Log returns what the node has logged so far.
func (n *Node) Log(tb testing.TB) string {
	tb.Helper()
	return n.Exec(tb, "cat log")
}

// Options are those that a client of just this node needs.
func (n *Node) Options() *redis.Options {
	options := &redis.Options{
		Addr: n.Addr(), Password: n.owner.password,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if n.sentinel {
		options.Password = n.owner.sentinelPassword
	}
	if n.owner.tls != nil {
		options.TLSConfig = n.owner.tls.Config()
	}
	return options
}

// Client returns a client of just this node, whatever its role, and closes it when the test ends.
func (n *Node) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	rdb := redis.NewClient(n.Options())
	tb.Cleanup(func() { check(tb, rdb.Close(), "close a Redis client") })
	return rdb
}

// Kill ends the node with SIGKILL, as a crash would, and returns when it is gone.
func (n *Node) Kill(tb testing.TB) {
	tb.Helper()
	n.running = false
	n.Exec(tb, `kill -9 $(cat pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.01; done`)
}

// Stop shuts the node down in order: it saves what it is configured to save.
func (n *Node) Stop(tb testing.TB) {
	tb.Helper()
	n.running = false
	n.Exec(tb, `kill -TERM $(cat pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.01; done`)
}

// Freeze stops the node's process: connections stay open, nothing answers, and what others send waits in its sockets.
func (n *Node) Freeze(tb testing.TB) {
	tb.Helper()
	n.running = false
	n.Exec(tb, `kill -STOP $(cat pid); until grep -q '^State:.T' /proc/$(cat pid)/status; do sleep 0.01; done`)
}

// Resume lets a frozen node go on.
func (n *Node) Resume(tb testing.TB) {
	tb.Helper()
	n.Exec(tb, `kill -CONT $(cat pid)`)
	n.running = true
}

// Start starts a killed or stopped node again, on the same address and data, and returns when it answers. Without persistence (see
// [WithArgs]) a node comes back empty.
func (n *Node) Start(tb testing.TB) {
	tb.Helper()
	n.Exec(tb, "sh ./run")
	check(tb, n.owner.await(tb.Context(), "the node "+n.Addr(), n.answers), "start a node")
	n.running = true
}

// IsMaster reports what the node itself believes. One that does not answer is none.
func (n *Node) IsMaster(tb testing.TB) bool {
	tb.Helper()
	return n.role(tb.Context()) == "master"
}

func (n *Node) role(ctx context.Context) string { return roleIn(n.ask(ctx, "ROLE")) }

func roleIn(cmd *redis.Cmd) string {
	reply, err := cmd.Slice()
	if err != nil || len(reply) == 0 {
		return ""
	}
	role, _ := reply[0].(string)
	return role
}

// info returns one field of INFO replication, "" when the node does not answer.
func (n *Node) info(ctx context.Context, field string) string {
	text, _ := n.ask(ctx, "INFO", "replication").Text()
	return fieldIn(text, field)
}

func fieldIn(text, field string) string {
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == field {
			return value
		}
	}
	return ""
}

func (n *Node) answers(ctx context.Context) error { return n.ask(ctx, "PING").Err() }

// ask sends one command on a connection of its own and does not wait long for a node that may be dead or frozen.
func (n *Node) ask(ctx context.Context, args ...any) *redis.Cmd {
	return n.askWithin(ctx, answerTimeout, args)
}

// tell is ask for a node that runs: where the machine is busy its answer takes a while, and is needed.
func (n *Node) tell(ctx context.Context, args ...any) *redis.Cmd {
	return n.askWithin(ctx, settleTimeout, args)
}

func (n *Node) askWithin(ctx context.Context, timeout time.Duration, args []any) *redis.Cmd {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	options := n.Options()
	options.MaxRetries, options.PoolSize, options.ContextTimeoutEnabled = -1, 1, true
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = timeout, timeout, timeout
	rdb := redis.NewClient(options)
	defer rdb.Close()
	return rdb.Do(ctx, args...)
}

// startNodes starts count servers, configured by what config returns for each port, in one container. The last idle ones are only
// prepared, for Start.
func startNodes(ctx context.Context, set settings, count, idle int, config func(ports []int, i int) nodeConfig) (*nodes, error) {
	all := &nodes{settings: set}
	server, err := spec{
		imageVariable: set.kind.imageVariable,
		image:         set.kind.image,
		nodes:         count,
		cmd:           []string{"sh", nodesDir + "/start"},
		files: func(ports []int) []testcontainers.ContainerFile {
			all.all = nil // of an attempt before, on other ports
			files := append(set.tls.containerFiles(), textFile(nodesDir+"/start", startScript(ports[:count-idle])))
			for i, port := range ports {
				node := config(ports, i)
				all.all = append(all.all, &Node{owner: all, port: port, sentinel: node.sentinel, running: i < count-idle})
				files = append(files, set.nodeFiles(port, node)...)
			}
			return files
		},
		// The container runs; all nodes are waited for below.
		probe: func(context.Context, string) error { return nil },
	}.start(ctx)
	if err != nil {
		return nil, err
	}
	all.Server = server
	if server.Host() != "127.0.0.1" {
		return nil, errors.Join(
			fmt.Errorf("the engine publishes ports on %s, and nodes that name each other to clients need it to be this machine: use a local Docker engine", server.Host()),
			server.remove(context.WithoutCancel(ctx)))
	}
	for _, node := range all.all[:count-idle] {
		if err := all.await(ctx, "the node "+node.Addr(), node.answers); err != nil {
			return nil, errors.Join(err, server.remove(context.WithoutCancel(ctx)))
		}
	}
	return all, nil
}

// await repeats a question until its answer is nil.
func (n *nodes) await(ctx context.Context, what string, question func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	ticker := time.NewTicker(pollTopology)
	defer ticker.Stop()
	for {
		err := question(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, err)
		case <-ticker.C:
		}
	}
}
