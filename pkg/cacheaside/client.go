package cacheaside

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/redis/go-redis/v9"
)

//go:embed fill.lua
var fillSource string

//go:embed claim.lua
var claimSource string

// Client reads and writes entries of one Redis. It is safe for concurrent use; a program needs one per Redis.
type Client struct {
	reads   redis.UniversalClient // with the timeouts of reads
	deletes redis.UniversalClient // with the timeouts of deletes
	opts    Options
	fill    script // compares an entry with what was seen of it, and replaces it
	claim   script // replaces a value that is not a string
	owed    *owedDeletes
	looks   *looks
	flights *flights
	redis   redisBreaker
	loads   bulkhead.Bulkhead[any]
	hooks   hooks
}

// New returns a Client that uses rdb, which stays the caller's to close. It does no I/O and starts nothing. The error
// lists everything that is wrong with the client and the options.
//
// Set redis.Options.ContextTimeoutEnabled. A *redis.Client without it is used through copies made with its WithTimeout,
// with read and write timeouts of [Options.RedisTimeout] and [Options.DeleteTimeout], and go-redis does not give these the
// client's hooks: tracing and metrics hooks do not see what this package sends. With it the client is used as it is.
//
// Set redis.ClusterOptions.ClusterStateReloadInterval to a second too. By default a cluster's client looks for the master
// that replaces a dead one once a minute; until then reads of its slots find Redis unreachable.
func New(rdb redis.UniversalClient, opts Options) (*Client, error) {
	opts, err := opts.withDefaults()
	if err := errors.Join(checkClient(rdb), err); err != nil {
		return nil, fmt.Errorf("cacheaside: %w", err)
	}
	c := &Client{
		reads:   bounded(rdb, opts.RedisTimeout),
		deletes: bounded(rdb, opts.DeleteTimeout),
		opts:    opts,
		fill:    newScript(fillSource),
		claim:   newScript(claimSource),
		flights: newFlights(),
		loads:   bulkhead.New[any](uint(opts.MaxLoads)),
	}
	c.looks = newLooks(c.reads, opts.AutoPipeline)
	c.redis = redisBreaker{newBreaker(opts.BreakAfter, opts.BreakFor, func(open bool) {
		opts.Observer.Observe(Event{Kind: openOrClosed(open), Err: ErrRedisOpen})
	})}
	c.owed = &owedDeletes{
		unlink:   c.unlink,
		observer: opts.Observer,
		limit:    opts.OwedKeys,
		keep:     opts.OwedFor,
		timeout:  opts.DeleteTimeout,
		keys:     map[string]owedKey{},
	}
	return c, nil
}

// Close stops the background retry of owed deletes and waits for it and for the loads under way; keys still owed are
// reported as [EventOwedDropped]. Reads and writes keep working, but a delete that fails from then on is not retried. The
// Redis client stays open.
func (c *Client) Close() {
	c.owed.close()
	c.flights.wait()
}

// bounded makes rdb respect d. Unless ContextTimeoutEnabled is set, go-redis ignores the deadlines of contexts while it
// talks to the server, and only its socket timeouts count.
func bounded(rdb redis.UniversalClient, d time.Duration) redis.UniversalClient {
	if single, ok := rdb.(*redis.Client); ok && !single.Options().ContextTimeoutEnabled {
		if own := single.Options().ReadTimeout; own > 0 {
			d = min(d, own)
		}
		return single.WithTimeout(d)
	}
	return rdb
}

// step names a place where tests force an interleaving.
type step string

const (
	stepGet     step = "get"
	stepLease   step = "lease"
	stepReplace step = "replace"
	stepLoad    step = "load"
	stepFill    step = "fill"
	stepRelease step = "release"
	stepWait    step = "wait"
	stepDelete  step = "delete"
	stepClaim   step = "claim" // the right to replace a value
	stepRenew   step = "renew" // a lease
)

// hooks are set by tests only, before the Client is used.
type hooks struct {
	before func(ctx context.Context, s step, key string)
	after  func(s step, key string) // Redis has answered, and nobody has seen the reply
}

func (h hooks) at(ctx context.Context, s step, key string) {
	if h.before != nil {
		h.before(ctx, s, key)
	}
}

func (h hooks) answered(s step, key string) {
	if h.after != nil {
		h.after(s, key)
	}
}
