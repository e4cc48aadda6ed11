package redissink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	// timeout is how long Redis may take over a pipeline, and over a login.
	// A shutdown waits for it, and a failover of a frozen server.
	timeout     = 1500 * time.Millisecond
	dialTimeout = time.Second
)

// Config describes the cache and where in it the position lives.
type Config struct {
	// Redis is the cache. With MasterName its Addrs are those of Sentinels,
	// with IsClusterMode some nodes of a cluster; else Addrs[0] is the one
	// standalone server. Settings of pools, retries and timeouts are
	// overridden: the Sink needs to know when a connection breaks. Required.
	Redis *redis.UniversalOptions
	// Namespace is the prefix of the daemon's own keys. Required.
	Namespace string
	// Source names the log that the position is of. Required.
	Source string
	// Holder is who holds the lease: one for a process, shared by its Sinks,
	// none of which deletes the keys of another. Default: NewHolder("").
	Holder *Holder
	// Identity tells which log this process reads. Where another process
	// leads for another log under the same Namespace and Source, Positions
	// fails and names it. It is called while the Sink waits for the lease and
	// now and then after that, from one goroutine; an error says that this
	// process could not take over now. Default: not compared.
	Identity func(ctx context.Context) (Identity, error)
	// Group names the group under which the delete of a key is reported, of
	// few groups in all. It is called concurrently. Default: one group, "".
	Group func(key string) string
	// PurgeRate is the most keys a purge deletes in a second.
	// Default 20,000; negative: no limit.
	PurgeRate int
	// MaxParked is how many keys of one master, whose delete Redis refuses
	// for good, are remembered and passed. With more, the Sink waits.
	// Default 1,000.
	MaxParked int
	// Observer hears of retries, deletes, purges and who leads.
	// Default: nobody.
	Observer invalidation.Observer
}

func (c Config) check() error {
	var errs []error
	switch {
	case c.Redis == nil:
		errs = append(errs, errors.New("redissink: Config.Redis is nil"))
	case len(c.Redis.Addrs) == 0:
		errs = append(errs, errors.New("redissink: Config.Redis.Addrs is empty"))
	case c.Redis.IsClusterMode && c.Redis.DB != 0:
		errs = append(errs, errors.New("redissink: Config.Redis.DB: a cluster has only the database 0"))
	case c.Redis.IsClusterMode && c.Redis.MasterName != "":
		errs = append(errs, errors.New("redissink: Config.Redis has both MasterName and IsClusterMode"))
	}
	if c.Namespace == "" {
		errs = append(errs, errors.New("redissink: Config.Namespace is empty"))
	}
	if c.Source == "" {
		errs = append(errs, errors.New("redissink: Config.Source is empty"))
	}
	if c.MaxParked < 0 {
		errs = append(errs, fmt.Errorf("redissink: Config.MaxParked is %d: it has to be positive, or 0 for the default", c.MaxParked))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.PurgeRate == 0 {
		c.PurgeRate = 20_000
	}
	if c.MaxParked == 0 {
		c.MaxParked = 1000
	}
	if c.Holder == nil {
		c.Holder = NewHolder("")
	}
	if c.Group == nil {
		c.Group = func(string) string { return "" }
	}
	if c.Observer == nil {
		c.Observer = invalidation.NoObserver()
	}
	return c
}

// options makes one connection to addr that is never replaced in silence: no
// retries by the client, no second connection, no idle timeout.
func (c Config) options(addr string, connected func()) *redis.Options {
	o := c.Redis.Simple()
	o.Addr = addr
	o.PipelinePoolSize = -1 // pipelines use the same connection as all else
	o.PoolSize, o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns = 1, 0, 1, 1
	o.MaxRetries, o.DialerRetries = -1, 1
	o.ConnMaxIdleTime, o.ConnMaxLifetime = -1, -1
	o.ContextTimeoutEnabled = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dialTimeout, timeout, timeout
	inner := o.OnConnect
	o.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
		connected()
		if inner != nil {
			return inner(ctx, conn)
		}
		return nil
	}
	return o
}
