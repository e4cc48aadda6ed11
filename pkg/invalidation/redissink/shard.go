package redissink

import (
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// shard is one master: the one connection to it, and what the Sink knows of
// the position's value there.
type shard struct {
	dial        func(addr string, connected func()) *redis.Client
	scripts     *scripts
	earned      *earned
	at          atomic.Pointer[place]
	connections atomic.Int64 // how many were opened so far

	connecting sync.Mutex
	client     atomic.Pointer[redis.Client]
	addr       atomic.Pointer[string]

	mu     sync.Mutex // one pipeline, or one question, at a time
	last   string     // what is stored, as far as the replies tell
	tried  []string   // what pipelines may have stored whose replies were lost
	seenOn int64      // connections when last was last confirmed
	server string     // the server's identity when last was last confirmed
	own    string     // the position that was read; stored until another is earned
	fresh  bool       // a position that was earned since is stored
	extra  []string   // older positions in slots that came from, or go to, other masters

	state shardState
	size  size
}

// place is where a master's position stands.
type place struct {
	slot int // -1 outside of clusters
	key  string
}

func newShard(cfg Config, scripts *scripts, earned *earned, addr string, at place) *shard {
	sh := &shard{dial: func(addr string, connected func()) *redis.Client {
		return redis.NewClient(cfg.options(addr, connected))
	}, scripts: scripts, earned: earned, seenOn: -1}
	sh.at.Store(&at)
	sh.connect(addr)
	return sh
}

// follows takes over what the shard before it knew of the master, but for what
// is stored there.
func (sh *shard) follows(before *shard) {
	sh.size.keys.Store(before.size.keys.Load())
	if since := before.state.since(); !since.IsZero() {
		sh.state.fails(since) // it is not waited for again, and heard of when it works
	}
}

// connect goes to another address, and breaks what is under way to the one
// before.
func (sh *shard) connect(addr string) {
	sh.connecting.Lock()
	defer sh.connecting.Unlock()
	sh.connectTo(addr)
}

// renew breaks what is under way to addr, unless the shard has gone elsewhere.
// It opens another connection: a client that is only closed would stay so.
func (sh *shard) renew(addr string) {
	sh.connecting.Lock()
	defer sh.connecting.Unlock()
	if sh.address() == addr {
		sh.connectTo(addr)
	}
}

func (sh *shard) connectTo(addr string) {
	sh.addr.Store(&addr)
	client := sh.dial(addr, func() { sh.connections.Add(1) })
	if before := sh.client.Swap(client); before != nil {
		_ = before.Close()
	}
}

func (sh *shard) close() {
	sh.connecting.Lock()
	defer sh.connecting.Unlock()
	_ = sh.client.Load().Close()
}

func (sh *shard) address() string { return *sh.addr.Load() }

// ask lets do use the connection while no pipeline does. Only then does the
// number of connections tell on which one a reply came.
func (sh *shard) ask(do func(client *redis.Client) error) error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return do(sh.client.Load())
}
