package servers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	clusterMasters = 3
	clusterSpares  = 2 // nodes that AddMaster and AddReplica start
	clusterSlots   = 16384
	firstBusPort   = 11000 // in the container
)

// Cluster is a Redis Cluster of three masters, each with replicas. It takes a node for dead that has not answered for one and a half
// seconds; a failover takes about three.
type Cluster struct {
	TLS *TLS // nil: all speak plain text

	nodes  *nodes
	spares []*Node
}

// NewCluster starts three masters with a replica each, of the test's own, and removes them when the test ends. Without persistence (see
// [WithArgs]) a node that is killed and started again comes back empty.
func NewCluster(tb testing.TB, options ...Option) *Cluster {
	tb.Helper()
	set := newSettings(1, options)
	if set.tls != nil {
		check(tb, set.tls.generate(tb.TempDir()), "make certificates")
	}
	size := clusterMasters * (1 + set.replicas)
	all, err := startNodes(tb.Context(), set, size+clusterSpares, clusterSpares, func(ports []int, i int) nodeConfig {
		return nodeConfig{lines: set.clusterLines(ports[i], i)}
	})
	check(tb, err, "start the nodes of a cluster of "+set.kind.image)
	all.cleanup(tb)
	c := &Cluster{TLS: set.tls, nodes: all, spares: all.all[size:]}
	all.all = all.all[:size]
	check(tb, c.create(tb.Context()), "create a cluster")
	c.Settle(tb)
	return c
}

// clusterLines configure node i.
func (s settings) clusterLines(port, i int) []string {
	lines := append(s.dataLines(port),
		"cluster-enabled yes",
		"cluster-config-file nodes.conf",
		"cluster-announce-ip 127.0.0.1",
		fmt.Sprintf("cluster-port %d", firstBusPort+i),
		"cluster-node-timeout 1500",
		"cluster-replica-validity-factor 0",  // a replica may be promoted however long it has been cut off
		"cluster-allow-replica-migration no", // tests say who replicates whom
	)
	if s.tls != nil {
		lines = append(lines, "tls-cluster yes")
	}
	return lines
}

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string { return addrs(c.nodes.all) }

// Nodes returns all nodes, added ones at the end. The first three were the masters at the start.
func (c *Cluster) Nodes() []*Node { return c.nodes.all }

// Options are those of a client of the whole cluster.
func (c *Cluster) Options() *redis.UniversalOptions {
	options := &redis.UniversalOptions{Addrs: c.Addrs(), IsClusterMode: true, Password: c.nodes.password}
	if c.TLS != nil {
		options.TLSConfig = c.TLS.Config()
	}
	return options
}

// Client returns a client of the whole cluster and closes it when the test ends. It looks for new masters every second: by default
// go-redis asks for them when a node says MOVED, which a dead one does not, and every minute.
func (c *Cluster) Client(tb testing.TB) *redis.ClusterClient {
	tb.Helper()
	options := c.Options().Cluster()
	options.ClusterStateReloadInterval = time.Second
	rdb := redis.NewClusterClient(options)
	tb.Cleanup(func() { check(tb, rdb.Close(), "close a Redis client") })
	return rdb
}

// Masters returns the running nodes that are masters, in the order of Nodes.
func (c *Cluster) Masters(tb testing.TB) []*Node {
	tb.Helper()
	var masters []*Node
	for _, node := range c.running() {
		role := node.tell(tb.Context(), "ROLE")
		check(tb, role.Err(), "ask a node for its role")
		if roleIn(role) == "master" {
			masters = append(masters, node)
		}
	}
	return masters
}

// Replicas returns the running nodes that replicate from master, which may be dead.
func (c *Cluster) Replicas(tb testing.TB, master *Node) []*Node {
	tb.Helper()
	var replicas []*Node
	for _, node := range c.running() {
		text, err := node.tell(tb.Context(), "INFO", "replication").Text()
		check(tb, err, "ask a node for its master")
		if fieldIn(text, "master_port") == strconv.Itoa(master.port) {
			replicas = append(replicas, node)
		}
	}
	return replicas
}

// Failover makes a replica of a living master take its place in order, which loses nothing, and returns the replica and when.
func (c *Cluster) Failover(tb testing.TB, master *Node) (*Node, time.Time) {
	tb.Helper()
	replicas := c.Replicas(tb, master)
	if len(replicas) == 0 {
		tb.Fatalf("%s has no replica to fail over to", master)
	}
	check(tb, replicas[0].tell(tb.Context(), "CLUSTER", "FAILOVER").Err(), "fail over")
	return Promoted(tb, replicas[0])
}

// Forget has the nodes that run forget one that is dead. Nobody serves its slots then.
func (c *Cluster) Forget(tb testing.TB, dead *Node) {
	tb.Helper()
	id := c.idOf(tb, dead)
	for _, node := range c.running() {
		check(tb, node.tell(tb.Context(), "CLUSTER", "FORGET", id).Err(), "forget a node")
	}
}

// AddMaster starts one more master, without slots, and returns it when all know it. There are two nodes to add.
func (c *Cluster) AddMaster(tb testing.TB) *Node {
	tb.Helper()
	node := c.add(tb)
	c.Settle(tb)
	return node
}

// AddReplica starts one more replica of master and returns it when it has its data.
func (c *Cluster) AddReplica(tb testing.TB, master *Node) *Node {
	tb.Helper()
	node := c.add(tb)
	c.Settle(tb)
	check(tb, c.replicate(tb.Context(), node, master), "add a replica")
	c.Settle(tb)
	return node
}

func (c *Cluster) add(tb testing.TB) *Node {
	tb.Helper()
	if len(c.spares) == 0 {
		tb.Fatalf("a cluster can be given %d more nodes, not more", clusterSpares)
	}
	node := c.spares[0]
	node.Start(tb)
	c.spares = c.spares[1:]
	check(tb, c.meet(tb.Context(), c.running()[0], node, len(c.nodes.all)), "add a node")
	c.nodes.all = append(c.nodes.all, node)
	return node
}

// Settle waits until all running nodes know each other and find the cluster in order, every replica has its master's data, and no slot
// has two masters: one that was away learns of its successor.
func (c *Cluster) Settle(tb testing.TB) {
	tb.Helper()
	check(tb, c.nodes.await(tb.Context(), "the cluster", func(ctx context.Context) error {
		slots := 0
		for _, node := range c.running() {
			own, err := c.settled(ctx, node)
			if err != nil {
				return fmt.Errorf("%s: %w", node, err)
			}
			for _, r := range own {
				slots += r.Last - r.First + 1
			}
		}
		if slots > clusterSlots {
			return fmt.Errorf("the masters have %d slots together", slots)
		}
		return nil
	}), "bring the cluster up")
}

// settled returns the node's slots.
func (c *Cluster) settled(ctx context.Context, node *Node) ([]SlotRange, error) {
	info, err := node.ask(ctx, "CLUSTER", "INFO").Text()
	if err != nil {
		return nil, err
	}
	if !strings.Contains(info, "cluster_state:ok") {
		return nil, errors.New(strings.ReplaceAll(strings.TrimSpace(info), "\r\n", " "))
	}
	text, err := node.ask(ctx, "CLUSTER", "NODES").Text()
	if err != nil {
		return nil, err
	}
	if known := strings.Count(text, " connected"); known < len(c.running()) || strings.Contains(text, "handshake") {
		return nil, fmt.Errorf("it knows %d of %d nodes", known, len(c.running()))
	}
	if node.info(ctx, "master_link_status") == "down" {
		return nil, errors.New("it has not got its master's data")
	}
	return ownSlots(text), nil
}

func (c *Cluster) running() []*Node {
	var running []*Node
	for _, node := range c.nodes.all {
		if node.running {
			running = append(running, node)
		}
	}
	return running
}

// create makes a cluster of nodes that do not know each other. (redis-cli --cluster create takes its time, and asks for a yes.)
func (c *Cluster) create(ctx context.Context) error {
	all := c.nodes.all
	for i, node := range all {
		if err := node.tell(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return fmt.Errorf("set the epoch of %s: %w", node, err)
		}
	}
	for i, master := range all[:clusterMasters] {
		first, last := i*clusterSlots/clusterMasters, (i+1)*clusterSlots/clusterMasters-1
		if err := master.tell(ctx, "CLUSTER", "ADDSLOTSRANGE", first, last).Err(); err != nil {
			return fmt.Errorf("give slots to %s: %w", master, err)
		}
	}
	for i, node := range all[1:] {
		if err := c.meet(ctx, all[0], node, i+1); err != nil {
			return err
		}
	}
	for i, replica := range all[clusterMasters:] {
		if err := c.replicate(ctx, replica, all[i%clusterMasters]); err != nil {
			return err
		}
	}
	return nil
}

// meet makes a member of the cluster greet node, whose bus port is that of place i.
func (c *Cluster) meet(ctx context.Context, member, node *Node, i int) error {
	if err := member.tell(ctx, "CLUSTER", "MEET", "127.0.0.1", node.port, firstBusPort+i).Err(); err != nil {
		return fmt.Errorf("introduce %s: %w", node, err)
	}
	return nil
}

// replicate makes node a replica of master, once it has heard of it.
func (c *Cluster) replicate(ctx context.Context, node, master *Node) error {
	id, err := master.tell(ctx, "CLUSTER", "MYID").Text()
	if err != nil {
		return fmt.Errorf("ask %s for its id: %w", master, err)
	}
	return c.nodes.await(ctx, "the replica "+node.Addr(), func(ctx context.Context) error {
		return node.ask(ctx, "CLUSTER", "REPLICATE", id).Err()
	})
}
