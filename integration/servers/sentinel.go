package servers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	masterName     = "main"
	sentinelCount  = 3
	sentinelQuorum = 2
)

// Sentinel is a master with replicas, and three Sentinels that take a master for dead that has not answered for a second. A failover
// takes one to three seconds.
type Sentinel struct {
	TLS *TLS // nil: all speak plain text

	nodes     *nodes
	data      []*Node
	sentinels []*Node
}

// NewSentinel starts a master, two replicas and three Sentinels of the test's own, and removes them when the test ends. Without
// persistence (see [WithArgs]) a server that is killed and started again comes back empty.
func NewSentinel(tb testing.TB, options ...Option) *Sentinel {
	tb.Helper()
	set := newSettings(2, options)
	if set.tls != nil {
		check(tb, set.tls.generate(tb.TempDir()), "make certificates")
	}
	s, err := startSentinel(tb.Context(), set)
	check(tb, err, "start servers of "+set.kind.image)
	s.nodes.cleanup(tb)
	check(tb, s.nodes.await(tb.Context(), "the replicas", s.replicated), "replicate")
	s.watch(tb)
	check(tb, s.nodes.await(tb.Context(), "the Sentinels", s.complete), "start Sentinels")
	return s
}

// Addrs returns the addresses of the Sentinels.
func (s *Sentinel) Addrs() []string { return addrs(s.sentinels) }

// MasterName returns the name under which the Sentinels know the master.
func (s *Sentinel) MasterName() string { return masterName }

// Nodes returns the servers that keep data. The first was the master at the start.
func (s *Sentinel) Nodes() []*Node { return s.data }

// Sentinels returns the Sentinels.
func (s *Sentinel) Sentinels() []*Node { return s.sentinels }

// Options are those of a client that asks the Sentinels for the master.
func (s *Sentinel) Options() *redis.UniversalOptions {
	options := &redis.UniversalOptions{
		MasterName: masterName, Addrs: s.Addrs(), Password: s.nodes.password, SentinelPassword: s.nodes.sentinelPassword,
	}
	if s.TLS != nil {
		options.TLSConfig = s.TLS.Config()
	}
	return options
}

// Client returns a client that follows the master, and closes it when the test ends.
func (s *Sentinel) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	rdb := redis.NewFailoverClient(s.Options().Failover())
	tb.Cleanup(func() { check(tb, rdb.Close(), "close a Redis client") })
	return rdb
}

// Master returns the server that the Sentinels name as the master. It may be dead.
func (s *Sentinel) Master(tb testing.TB) *Node {
	tb.Helper()
	var master *Node
	check(tb, s.nodes.await(tb.Context(), "the Sentinels", func(ctx context.Context) error {
		for _, sentinel := range s.sentinels {
			if master = s.namedBy(ctx, sentinel); master != nil {
				return nil
			}
		}
		return errors.New("none names a master")
	}), "find the master")
	return master
}

// Replicas returns all servers that keep data but master.
func (s *Sentinel) Replicas(tb testing.TB) []*Node {
	tb.Helper()
	return without(s.data, s.Master(tb))
}

// Failover makes the Sentinels promote a replica while the master is alive, and returns when one is promoted, with the time of that.
// What the old master answers until it is told is lost. It waits for the end of a failover before.
func (s *Sentinel) Failover(tb testing.TB) (*Node, time.Time) {
	tb.Helper()
	master := s.Settle(tb)
	replicas := without(s.data, master)
	check(tb, s.nodes.await(tb.Context(), "a Sentinel", func(ctx context.Context) error {
		return s.sentinels[0].ask(ctx, "SENTINEL", "FAILOVER", masterName).Err() // INPROG, NOGOODSLAVE: shortly after another one
	}), "fail over")
	return Promoted(tb, replicas...)
}

// AwaitMaster waits until all running Sentinels name node as the master.
func (s *Sentinel) AwaitMaster(tb testing.TB, node *Node) {
	tb.Helper()
	check(tb, s.nodes.await(tb.Context(), "the Sentinels", func(ctx context.Context) error {
		for _, sentinel := range s.sentinels {
			if named := s.namedBy(ctx, sentinel); sentinel.running && named != node {
				return fmt.Errorf("%s names %v, not %v", sentinel, named, node)
			}
		}
		return nil
	}), "agree on the master")
}

// Settle waits until all running servers replicate from the one that the first Sentinel names, and returns that. A master that comes back
// is told so by Sentinels after ten seconds.
func (s *Sentinel) Settle(tb testing.TB) *Node {
	tb.Helper()
	var master *Node
	check(tb, s.nodes.await(tb.Context(), "the Sentinels", func(ctx context.Context) error {
		if master = s.namedBy(ctx, s.sentinels[0]); master == nil || !master.running {
			return errors.New("no running master is named")
		}
		want := 0
		for _, node := range s.data {
			if node.running && node != master {
				want++
			}
		}
		if got := len(s.nodes.replicasOf(ctx, master)); got != want {
			return fmt.Errorf("%d of %d servers replicate from %s", got, want, master)
		}
		return nil
	}), "replicate")
	return master
}

func (s *Sentinel) namedBy(ctx context.Context, sentinel *Node) *Node {
	addr, err := sentinel.ask(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName).StringSlice()
	if err != nil || len(addr) != 2 {
		return nil
	}
	for _, node := range s.data {
		if strconv.Itoa(node.port) == addr[1] {
			return node
		}
	}
	return nil
}

// watch starts the Sentinels. One that tries to reach a server before that listens tries again after a second, and by then has taken it
// for dead and begun a failover.
func (s *Sentinel) watch(tb testing.TB) {
	tb.Helper()
	var script strings.Builder
	for _, sentinel := range s.sentinels {
		fmt.Fprintf(&script, "sh %s/run; ", sentinel.Dir())
	}
	s.nodes.Exec(tb, "sh", "-c", script.String())
	for _, sentinel := range s.sentinels {
		sentinel.running = true
	}
}

// replicated reports whether all replicas are connected.
func (s *Sentinel) replicated(ctx context.Context) error {
	if connected := s.nodes.replicasOf(ctx, s.data[0]); len(connected) != s.nodes.replicas {
		return fmt.Errorf("%d of %d replicas are connected", len(connected), s.nodes.replicas)
	}
	return nil
}

// complete reports whether all Sentinels could fail over now, and none is about to.
func (s *Sentinel) complete(ctx context.Context) error {
	master := s.namedBy(ctx, s.sentinels[0])
	if master == nil {
		return errors.New("no master is named")
	}
	if connected := s.nodes.replicasOf(ctx, master); len(connected) != s.nodes.replicas {
		return fmt.Errorf("%d of %d replicas are connected", len(connected), s.nodes.replicas)
	}
	for _, sentinel := range s.sentinels {
		if err := sentinel.ask(ctx, "SENTINEL", "CKQUORUM", masterName).Err(); err != nil {
			return err
		}
		if flags := sentinel.flags(ctx); flags != "master" { // or s_down, failover_in_progress, ...
			return fmt.Errorf("%s says of the master: %q", sentinel, flags)
		}
		if named := s.namedBy(ctx, sentinel); named != master {
			return fmt.Errorf("%s names %v, not %s", sentinel, named, master)
		}
	}
	return nil
}

// flags returns what a Sentinel thinks of the master, "" when it does not answer.
func (n *Node) flags(ctx context.Context) string {
	reply, _ := n.ask(ctx, "SENTINEL", "MASTER", masterName).Result()
	fields, _ := reply.(map[any]any)
	flags, _ := fields["flags"].(string)
	return flags
}

// startSentinel starts the servers; the Sentinels are only prepared.
func startSentinel(ctx context.Context, set settings) (*Sentinel, error) {
	data := 1 + set.replicas
	ids := make([]string, sentinelCount)
	for i := range ids {
		var id [20]byte
		_, _ = rand.Read(id[:]) // never fails
		ids[i] = hex.EncodeToString(id[:])
	}
	all, err := startNodes(ctx, set, data+sentinelCount, sentinelCount, func(ports []int, i int) nodeConfig {
		if i < data {
			return nodeConfig{lines: set.replicaLines(ports[0], ports[i])}
		}
		return nodeConfig{lines: set.sentinelLines(ports[:data], ports[data:], ids, i-data), sentinel: true}
	})
	if err != nil {
		return nil, err
	}
	return &Sentinel{TLS: set.tls, nodes: all, data: all.all[:data], sentinels: all.all[data:]}, nil
}

// replicaLines configure the server on port, the master's or a replica's.
func (s settings) replicaLines(master, port int) []string {
	lines := append(s.dataLines(port), "replica-announce-ip 127.0.0.1", fmt.Sprintf("replica-announce-port %d", port))
	if port != master {
		lines = append(lines, fmt.Sprintf("replicaof 127.0.0.1 %d", master))
	}
	return lines
}

// sentinelLines configure Sentinel i. It knows the others and the replicas from the start, as after a restart: finding them out by
// itself takes it ten seconds.
func (s settings) sentinelLines(data, ports []int, ids []string, i int) []string {
	lines := append(s.tls.lines(ports[i], s.clientCerts),
		"protected-mode no",
		"sentinel myid "+ids[i],
		"sentinel announce-ip 127.0.0.1",
		fmt.Sprintf("sentinel announce-port %d", ports[i]),
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d %d", masterName, data[0], sentinelQuorum),
		fmt.Sprintf("sentinel down-after-milliseconds %s 1000", masterName),
		fmt.Sprintf("sentinel failover-timeout %s 3000", masterName),
		fmt.Sprintf("sentinel parallel-syncs %s %d", masterName, max(1, s.replicas)),
	)
	for _, port := range data[1:] {
		lines = append(lines, fmt.Sprintf("sentinel known-replica %s 127.0.0.1 %d", masterName, port))
	}
	for other, port := range ports {
		if other != i {
			lines = append(lines, fmt.Sprintf("sentinel known-sentinel %s 127.0.0.1 %d %s", masterName, port, ids[other]))
		}
	}
	if s.password != "" {
		lines = append(lines, "sentinel auth-pass "+masterName+" "+s.password)
	}
	if s.sentinelPassword != "" {
		lines = append(lines, "requirepass "+s.sentinelPassword, "sentinel sentinel-pass "+s.sentinelPassword)
	}
	return lines
}

func addrs(nodes []*Node) []string {
	addrs := make([]string, len(nodes))
	for i, node := range nodes {
		addrs[i] = node.Addr()
	}
	return addrs
}

func without(nodes []*Node, one *Node) []*Node {
	var others []*Node
	for _, node := range nodes {
		if node != one {
			others = append(others, node)
		}
	}
	return others
}
