package redissink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// leaseTTL is how long a leader that was killed or froze still counts.
	leaseTTL   = 3 * time.Second
	leaseRenew = time.Second
	// leaseStuck is after how long a lease that is not renewed does not
	// count, though it has not ended: somebody else wrote it, or its TTL.
	leaseStuck = 2 * leaseTTL
	leasePoll  = 250 * time.Millisecond
	// identifyEvery is how often one who waits looks at its log.
	identifyEvery = 10 * time.Second
)

// lease says who leads. It lives beside the position; overlap of two leaders is
// waste and no error, because the position's nonce tells them.
type lease struct {
	cfg      Config
	scripts  *scripts
	client   redis.UniversalClient
	identity atomic.Pointer[Identity]
	held     atomic.Bool
	renewals atomic.Uint64

	layout func(context.Context) (*layout, error)
	mu     sync.Mutex
	addr   string        // of the master that has the lease
	conn   *redis.Client // to it
}

func newLease(cfg Config, scripts *scripts, where func(context.Context) (*layout, error)) *lease {
	o := *cfg.Redis
	if o.MasterName == "" && !o.IsClusterMode {
		o.Addrs = o.Addrs[:1]
	}
	o.PoolSize, o.MaxRetries, o.ContextTimeoutEnabled = 2, 1, true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = time.Second, time.Second, time.Second
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	l := &lease{cfg: cfg, scripts: scripts, client: universal(&o), layout: where}
	l.identity.Store(&Identity{})
	return l
}

// universal is a client that looks for a cluster's new masters by itself. By
// default it does when a node says MOVED, which a dead one does not, and every
// minute.
func universal(o *redis.UniversalOptions) redis.UniversalClient {
	if !o.IsClusterMode {
		return redis.NewUniversalClient(o)
	}
	c := o.Cluster()
	c.ClusterStateReloadInterval = time.Second
	return redis.NewClusterClient(c)
}

// follow makes the client of a cluster look for its masters now.
func (l *lease) follow(ctx context.Context) {
	if c, ok := l.client.(*redis.ClusterClient); ok {
		c.ReloadState(ctx)
	}
}

func (l *lease) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Close()
	}
	return l.client.Close()
}

// master returns a client of the master that has the lease, as the Sink sees
// it: a client that asks by itself follows a Sentinel that is frozen, or finds
// a cluster's new master after a minute.
func (l *lease) master(ctx context.Context) (*redis.Client, error) {
	in, err := l.layout(ctx)
	if err != nil {
		return nil, err
	}
	addr := in.ownerOf(slotOf(l.cfg.leaseKey()))
	if addr == "" {
		return nil, errors.New("no master serves its slot")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.addr != addr {
		if l.conn != nil {
			_ = l.conn.Close()
		}
		o := l.cfg.options(addr, func() {})
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = time.Second, time.Second, time.Second
		l.addr, l.conn = addr, redis.NewClient(o)
	}
	return l.conn, nil
}

// address returns that of the master which has the lease, "" where it is not
// known.
func (l *lease) address() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addr
}

func (l *lease) value() string {
	text, _ := json.Marshal(holderValue{l.cfg.Holder.name, thisProcess(), *l.identity.Load(), l.renewals.Add(1)}) // it does not fail
	return l.cfg.Holder.nonce + " " + string(text)
}

// hold notes whether this process holds the lease, and reports whether that is
// news to the Sink.
func (l *lease) hold(held bool) bool {
	if held {
		l.cfg.Holder.takes(l.cfg.leaseKey())
	}
	return l.held.Swap(held) != held
}

// acquire takes or renews the lease. other is what holds it otherwise.
func (l *lease) acquire(ctx context.Context, over string) (other string, err error) {
	return l.run(ctx, l.value(), over)
}

func (l *lease) run(ctx context.Context, value, over string) (other string, err error) {
	for {
		client, err := l.master(ctx)
		if err != nil {
			return "", fmt.Errorf("ask for the lease: %w", err)
		}
		reply, err := l.scripts.of(l.scripts.lease).Run(ctx, client, []string{l.cfg.leaseKey()},
			l.cfg.Holder.nonce, value, leaseTTL.Milliseconds(), over).Result()
		switch {
		case errors.Is(err, redis.Nil):
			return "", nil
		case err != nil && l.scripts.withoutFlags(err):
			continue
		case err != nil:
			return "", fmt.Errorf("ask %s for the lease: %w", client.Options().Addr, err)
		}
		other, _ = reply.(string) // a number: the lease is held
		return other, nil
	}
}

// once tries to get the lease, which is there to be taken over if it is over.
// It returns who has it otherwise.
func (l *lease) once(ctx context.Context, over string) (other string, err error) {
	other, err = l.acquire(ctx, over)
	if err != nil {
		return "", err
	}
	if other != "" && l.cfg.Holder.replaces(parseHolder(other), l.cfg.leaseKey()) {
		other, err = l.acquire(ctx, other)
	}
	if err != nil || other != "" {
		return other, err
	}
	return "", nil
}

// leader returns who leads, "" for nobody.
func (l *lease) leader(ctx context.Context) (string, error) {
	client, err := l.master(ctx)
	if err != nil {
		return "", err
	}
	stored, err := client.Get(ctx, l.cfg.leaseKey()).Result()
	if errors.Is(err, redis.Nil) || isWrongType(err) {
		return "", nil
	}
	return parseHolder(stored).Name, err
}

// isWrongType reports that a key holds no text, and so no lease: whoever leads
// next replaces it.
func isWrongType(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE") }
