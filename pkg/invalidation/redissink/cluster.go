package redissink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// askAtOnce is how many nodes of a cluster are asked at a time.
const askAtOnce = 3

// cluster asks some nodes for the slots and believes the one that sees the
// cluster working and knows of its newest epoch: one that was cut off tells old
// news.
type cluster struct {
	cfg Config

	mu      sync.Mutex
	nodes   []string // whom to ask, best first
	clients map[string]*redis.Client
}

func newCluster(cfg Config) *cluster {
	return &cluster{cfg: cfg, nodes: slices.Clone(cfg.Redis.Addrs), clients: map[string]*redis.Client{}}
}

// clusterView is what one node says.
type clusterView struct {
	from   string
	layout *layout
	nodes  []string
	works  bool
	epoch  int64
	err    error
}

func (c *cluster) ask(ctx context.Context) (*layout, error) {
	var errs []error
	for some := range slices.Chunk(c.candidates(), askAtOnce) {
		best, err := c.askSome(ctx, some)
		if err == nil {
			c.learn(best)
			return best.layout, nil
		}
		if errors.Is(err, invalidation.ErrFatal) {
			return nil, err
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("ask the cluster for its masters: %w", errors.Join(errs...))
}

func (c *cluster) askSome(ctx context.Context, addrs []string) (clusterView, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	views := make(chan clusterView, len(addrs))
	for _, addr := range addrs {
		client := c.client(addr)
		go func() { views <- askNode(ctx, addr, client) }()
	}
	var best clusterView
	var errs []error
	var late <-chan time.Time
	for range addrs {
		var v clusterView
		select {
		case v = <-views:
		case <-late:
			return best, nil
		}
		if v.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", v.from, v.err))
			continue
		}
		if best.layout == nil || v.works && !best.works || v.works == best.works && v.epoch > best.epoch {
			best = v
		}
		if late == nil {
			late = time.After(askGrace) // one that is frozen holds nobody up
		}
	}
	if best.layout != nil {
		return best, nil
	}
	return best, clusterError(errs)
}

func clusterError(errs []error) error {
	err := errors.Join(errs...)
	switch {
	case strings.Contains(err.Error(), "cluster support disabled"):
		return invalidation.Fatal(fmt.Errorf("redis %w: it is no cluster: check the mode", errs[0]))
	case isWrongPassword(err):
		return invalidation.Fatal(fmt.Errorf("redis refuses the login: check its username and password: %w", errs[0]))
	}
	return err
}

// askNode reads the slots as one node sees them.
func askNode(ctx context.Context, addr string, client *redis.Client) clusterView {
	v := clusterView{from: addr}
	pipe := client.Pipeline()
	info, owned := pipe.ClusterInfo(ctx), pipe.ClusterSlots(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		v.err = err
		return v
	}
	for line := range strings.Lines(info.Val()) {
		field, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch field {
		case "cluster_state":
			v.works = value == "ok"
		case "cluster_current_epoch":
			v.epoch, _ = strconv.ParseInt(value, 10, 64) // 0 is as good as none
		}
	}
	ranges := owned.Val()
	slices.SortFunc(ranges, func(a, b redis.ClusterSlot) int { return a.Start - b.Start })
	v.layout = &layout{owner: new([slots]string)}
	for _, r := range ranges {
		if len(r.Nodes) == 0 || r.Start < 0 || r.End >= slots {
			continue
		}
		master := resolve(r.Nodes[0].Addr, addr)
		for slot := r.Start; slot <= r.End; slot++ {
			v.layout.owner[slot] = master
		}
		if !v.layout.has(master) {
			v.layout.masters = append(v.layout.masters, master)
		}
		for _, node := range r.Nodes {
			v.nodes = append(v.nodes, resolve(node.Addr, addr))
		}
	}
	if len(v.layout.masters) == 0 {
		v.err = errors.New("it knows of no slots: is the cluster made yet?")
	}
	return v
}

// resolve completes an address without a host, which means the node that was
// asked.
func resolve(addr, asked string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host != "" && host != "?" {
		return addr
	}
	host, _, _ = net.SplitHostPort(asked)
	return net.JoinHostPort(host, port)
}

// candidates lists whom to ask: who knew last time, then the others, then
// those of the configuration.
func (c *cluster) candidates() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return unique(append(slices.Clone(c.nodes), c.cfg.Redis.Addrs...))
}

// learn remembers a layout's nodes, and closes the connections to others.
func (c *cluster) learn(v clusterView) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = unique(append([]string{v.from}, v.nodes...))
	for addr, client := range c.clients {
		if !slices.Contains(c.nodes, addr) {
			_ = client.Close()
			delete(c.clients, addr)
		}
	}
}

func (c *cluster) hint(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = unique(append([]string{addr}, c.nodes...))
}

func (c *cluster) client(addr string) *redis.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	client, ok := c.clients[addr]
	if !ok {
		o := c.cfg.options(addr, func() {})
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = askTimeout, askTimeout, askTimeout
		client = redis.NewClient(o)
		c.clients[addr] = client
	}
	return client
}

func (c *cluster) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.clients {
		_ = client.Close()
	}
}

// unique keeps the first of each.
func unique(addrs []string) []string {
	var kept []string
	for _, addr := range addrs {
		if !slices.Contains(kept, addr) {
			kept = append(kept, addr)
		}
	}
	return kept
}
