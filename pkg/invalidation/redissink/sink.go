package redissink

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

//go:embed position.lua
var positionLua string

// timeout is how long Redis may take over a pipeline. A shutdown waits for it.
const timeout = 3 * time.Second

// Config describes the cache and where in it the position lives.
type Config struct {
	// Redis is the standalone server. The pool, retry and hook settings
	// are overridden: the Sink needs to know when a connection breaks.
	Redis *redis.Options
	// Namespace is the prefix of the daemon's own keys. Required.
	Namespace string
	// Source names the log that the position is of. Required.
	Source string
	// PurgeRate is the most keys a purge deletes in a second.
	// Default 20,000; negative: no limit.
	PurgeRate int
	// Observer hears of retries, deletes and purges. Default: nobody.
	Observer invalidation.Observer
}

// Sink deletes from one Redis server. Its methods may be called concurrently;
// they take turns.
type Sink struct {
	cfg         Config
	client      *redis.Client
	script      *redis.Script
	key         string
	connections atomic.Int64 // how many were opened so far

	mu      sync.Mutex
	known   bool   // last is known: Positions has been called
	last    string // what is stored, as far as the replies tell
	trying  string // what the pipeline in flight stores; its reply is not known
	applied string // the newest position whose deletes were all answered
	seenOn  int64  // connections when last was last confirmed
	server  string // the server's identity when last was last confirmed
	waiting bool
}

// New returns a Sink and opens no connection.
func New(cfg Config) (*Sink, error) {
	var errs []error
	if cfg.Redis == nil {
		errs = append(errs, errors.New("redissink: Config.Redis is nil"))
	}
	if cfg.Namespace == "" {
		errs = append(errs, errors.New("redissink: Config.Namespace is empty"))
	}
	if cfg.Source == "" {
		errs = append(errs, errors.New("redissink: Config.Source is empty"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.PurgeRate == 0 {
		cfg.PurgeRate = 20_000
	}
	if cfg.Observer == nil {
		cfg.Observer = invalidation.NoObserver()
	}
	s := &Sink{cfg: cfg, key: PositionKey(cfg.Namespace, cfg.Source), script: redis.NewScript(positionLua)}
	s.client = redis.NewClient(s.options())
	return s, nil
}

// PositionKey returns the Redis key that holds the position of a source.
func PositionKey(namespace, source string) string {
	return namespace + ":position:" + source
}

// options makes one connection that is never replaced in silence: no retries
// by the client, no second connection, no idle timeout.
func (s *Sink) options() *redis.Options {
	o := *s.cfg.Redis
	o.PoolSize, o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns = 1, 0, 1, 1
	o.MaxRetries = -1
	o.ConnMaxIdleTime, o.ConnMaxLifetime = -1, -1
	o.ContextTimeoutEnabled = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = timeout
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = timeout
	}
	inner := o.OnConnect
	o.OnConnect = func(ctx context.Context, c *redis.Conn) error {
		s.connections.Add(1)
		if inner != nil {
			return inner(ctx, c)
		}
		return nil
	}
	return &o
}

// Close closes the connection.
func (s *Sink) Close() error { return s.client.Close() }

// Positions implements invalidation.Sink. It forgets what the Sink wrote and
// takes what the cache holds as the truth.
func (s *Sink) Positions(ctx context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.trying = false, ""
	var position string
	err := s.retry(ctx, "read the position", func() error {
		stored, err := s.look(ctx)
		if err != nil {
			return err
		}
		if position = ""; stored != "" {
			if position, err = positionOf(s.key, stored); err != nil {
				return err
			}
		}
		s.server = s.identity(ctx)
		s.last, s.seenOn, s.known = stored, s.connections.Load(), true
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.applied = position
	return []string{position}, nil
}

// look returns what is stored, "" for nothing. It runs the writing script, so
// that a replica or a server that is still loading answers with an error.
func (s *Sink) look(ctx context.Context) (string, error) {
	reply, err := s.script.Run(ctx, s.client, []string{s.key}, "", "").Result()
	switch {
	case errors.Is(err, redis.Nil):
		return "", nil
	case err != nil && s.withoutFlags(err):
		return "", errAgain
	case err != nil:
		return "", err
	}
	stored, ok := reply.(string)
	if !ok {
		return "", fmt.Errorf("unexpected reply %T to the position script", reply)
	}
	return stored, nil
}

// withoutFlags takes the flags off the script where the server, such as
// miniredis, is of a kind that knows none and said so with err.
func (s *Sink) withoutFlags(err error) bool {
	if !strings.Contains(err.Error(), "compiling script") || !strings.Contains(err.Error(), "near '#'") {
		return false
	}
	_, plain, _ := strings.Cut(positionLua, "\n")
	s.script = redis.NewScript(plain)
	return true
}

// Apply implements invalidation.Sink.
func (s *Sink) Apply(ctx context.Context, b invalidation.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known {
		return fmt.Errorf("apply before Positions: %w", invalidation.ErrResume)
	}
	started := time.Now()
	keys := b.Keys
	for {
		chunk := keys[:min(len(keys), keysPerPipeline)]
		if err := s.retry(ctx, "delete", func() error { return s.delete(ctx, chunk) }); err != nil {
			return err
		}
		if keys = keys[len(chunk):]; len(keys) == 0 {
			break
		}
	}
	for _, pattern := range b.Patterns {
		if err := s.retry(ctx, "purge", func() error { return s.purge(ctx, pattern) }); err != nil {
			return err
		}
	}
	if b.Position != "" {
		s.applied = b.Position // position after effect: every reply above was read
	}
	if len(b.Keys) > 0 {
		s.cfg.Observer.Observe(invalidation.Event{Kind: invalidation.Deleted, Part: invalidation.PartCache, Count: len(b.Keys), Took: time.Since(started)})
	}
	return nil
}
