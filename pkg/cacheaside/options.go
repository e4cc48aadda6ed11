package cacheaside

import (
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	defaultLease         = 5 * time.Second
	defaultMaxWait       = time.Second
	defaultRedisTimeout  = 250 * time.Millisecond
	defaultDeleteTimeout = time.Second
	defaultOwedKeys      = 10_000
	defaultOwedFor       = time.Minute
	defaultMaxLoads      = 128
	defaultBreakAfter    = 5
)

// Options configure a [Client]. The zero value is the default.
type Options struct {
	// Lease is how long other processes take a load for alive. It is renewed while the load runs, so loads may take longer
	// and still fill the entry. Readers of a key whose holder died cannot fill it for that long. At least 1 ms, default 5 s.
	Lease time.Duration

	// MaxWait bounds how long a read waits for another process's load of the same key before it loads for itself without
	// filling, and how long a load waits for one of MaxLoads to end. At most Lease; default 1 s, or Lease if that is shorter.
	MaxWait time.Duration

	// RedisTimeout bounds each Redis operation of a read, so that a Redis that hangs does not hang reads. With a
	// *redis.Client without ContextTimeoutEnabled an operation may take up to twice that. Default 250 ms.
	RedisTimeout time.Duration

	// DeleteTimeout bounds the deletes of one Write or Delete, as RedisTimeout does the operations of a read. Default 1 s.
	DeleteTimeout time.Duration

	// OwedKeys is how many keys whose delete failed are kept for the background retry; more are dropped and reported
	// as [EventOwedDropped]. Default 10,000.
	OwedKeys int

	// OwedFor is how long the background retry tries to delete one key before it drops it. Default 1 min.
	OwedFor time.Duration

	// ReturnOwed makes Write return an error wrapping [ErrOwed] when the write was done and a delete was not. Default
	// false: Write's error is the write's own.
	ReturnOwed bool

	// MaxLoads is how many calls of loaders run at a time; Get fails with [ErrTooManyLoads] when none ended for MaxWait. A
	// loader that itself reads through the same Client needs two of them. Default 128.
	MaxLoads int

	// BreakAfter is how many operations of reads have to fail in a row for Redis to be left alone for BreakFor: reads then
	// load without asking it, within MaxLoads. Answers of Redis are no failures, whatever they say. Deletes are always
	// tried. Default 5; negative: never.
	BreakAfter int

	// BreakFor is how long Redis is left alone before one read tries it again. At least 1 ms, default 1 s.
	BreakFor time.Duration

	// AutoPipeline sends the first looks of reads together, when more than a few are under way, with the AutoPipeline of
	// go-redis: 64 concurrent hits of many keys then take a third of the time of plain GETs, while a few are as fast as
	// without. Default false, because go-redis calls it experimental, because one connection carries all of them, so that
	// large values and a reply that is late hold up the others' (for up to RedisTimeout), and because hooks see a pipeline
	// without the contexts of its reads, which tracing needs. With a client that has no AutoPipeline it does nothing.
	// Only GETs are pipelined: a lease must be sent once, and a pipeline may be repeated.
	AutoPipeline bool

	// Observer is told what happens. Default: nobody is.
	Observer Observer
}

// withDefaults returns o with its zero fields filled in, or everything that is wrong with it.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	duration := func(name string, field *time.Duration, byDefault time.Duration) {
		switch {
		case *field == 0:
			*field = byDefault
		case *field < time.Millisecond:
			errs = append(errs, fmt.Errorf("option %s is %v: set it to 1ms or more, or to 0 for the default of %v", name, *field, byDefault))
		}
	}
	duration("Lease", &o.Lease, defaultLease)
	duration("MaxWait", &o.MaxWait, min(defaultMaxWait, max(o.Lease, time.Millisecond)))
	duration("RedisTimeout", &o.RedisTimeout, defaultRedisTimeout)
	duration("DeleteTimeout", &o.DeleteTimeout, defaultDeleteTimeout)
	duration("OwedFor", &o.OwedFor, defaultOwedFor)
	duration("BreakFor", &o.BreakFor, defaultBreakFor)
	if o.Lease >= time.Millisecond && o.MaxWait > o.Lease {
		errs = append(errs, fmt.Errorf("option MaxWait is %v, longer than Lease, %v: a lease that old is gone; set MaxWait to at most Lease",
			o.MaxWait, o.Lease))
	}
	number := func(name string, field *int, byDefault int) {
		switch {
		case *field == 0:
			*field = byDefault
		case *field < 0:
			errs = append(errs, fmt.Errorf("option %s is %d: set it to 1 or more, or to 0 for the default of %d", name, *field, byDefault))
		}
	}
	number("OwedKeys", &o.OwedKeys, defaultOwedKeys)
	number("MaxLoads", &o.MaxLoads, defaultMaxLoads)
	if o.BreakAfter == 0 {
		o.BreakAfter = defaultBreakAfter
	}
	if o.Observer == nil {
		o.Observer = ObserverFunc(func(Event) {})
	}
	return o, errors.Join(errs...)
}

// checkClient refuses the clients with which the guarantee, or the time bounds of Options, would not hold.
func checkClient(rdb redis.UniversalClient) error {
	switch rdb := rdb.(type) {
	case nil:
		return errors.New("the Redis client is nil")
	case *redis.Client:
		if rdb == nil {
			return errors.New("the Redis client is a nil *redis.Client")
		}
		return checkSingle(rdb.Options())
	case *redis.ClusterClient:
		if rdb == nil {
			return errors.New("the Redis client is a nil *redis.ClusterClient")
		}
		return checkCluster(rdb.Options())
	case *redis.Ring:
		return errors.New("a *redis.Ring moves the keys of a shard that it cannot reach to other shards, where no delete " +
			"finds the entries left behind: use redis.NewClient, redis.NewFailoverClient or redis.NewClusterClient")
	}
	return nil
}

func checkSingle(o *redis.Options) error {
	if o.ClientSideCacheConfig != nil || o.ClientSideCache != nil {
		return errors.New("redis.Options.ClientSideCacheConfig or ClientSideCache is set: a read could be answered from this process's " +
			"memory after another process's delete; leave both nil")
	}
	return nil
}

func checkCluster(o *redis.ClusterOptions) error {
	var errs []error
	replicas := func(set bool, name string) {
		if set {
			errs = append(errs, fmt.Errorf("redis.ClusterOptions.%s is set: a read could be answered by a replica that has not seen a delete; "+
				"set it to false", name))
		}
	}
	replicas(o.RouteByLatency, "RouteByLatency")
	replicas(o.RouteRandomly, "RouteRandomly")
	// go-redis sets ReadOnly itself beside the other two.
	replicas(o.ReadOnly && !o.RouteByLatency && !o.RouteRandomly, "ReadOnly")
	if !o.ContextTimeoutEnabled {
		errs = append(errs, errors.New("redis.ClusterOptions.ContextTimeoutEnabled is false: the client would ignore the option RedisTimeout and a Redis "+
			"that hangs would hang reads; set it to true"))
	}
	return errors.Join(errs...)
}
