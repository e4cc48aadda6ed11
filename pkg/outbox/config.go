package outbox

import (
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// The defaults of both kinds of source.
const (
	defaultPoll      = 20 * time.Millisecond
	defaultRetention = time.Hour
)

// PostgresConfig describes an outbox in Postgres (13 or later) and the cache
// that it is relayed to.
type PostgresConfig struct {
	// Name is what messages call the source. Default: the database's name.
	Name string
	// Hosts are host:port, tried in order until one is a primary. They have
	// to be Postgres itself: behind a pooler that switches servers between
	// statements a failover goes unseen, and the source says so and waits.
	Hosts []string
	// User, Password and Database log in. The user needs
	//
	//	USAGE ON SCHEMA cache_outbox                    which the migrations grant to everybody
	//	SELECT, DELETE ON cache_outbox.events           to read and to prune
	//	SELECT, UPDATE ON cache_outbox.state            to know and to note what was pruned
	//
	// and nothing else. With the role pg_read_all_stats Check also sees how
	// long the transactions of others have run.
	User, Password, Database string
	// TLS is used as it is, with the host as ServerName where that is
	// empty. Default: no TLS.
	TLS *tls.Config
	// Sink is where the keys are deleted and the position is remembered.
	Sink invalidation.Sink
	// Purge lists the globs that are deleted when the position is lost: of
	// rows that were pruned by then nothing else is left. It has to cover
	// every key that is enqueued. Required unless OnLost is invalidation.FailOnLost or FromNow is set.
	Purge []string
	// OnLost says what happens when the position is lost.
	// Default: invalidation.PurgeOnLost.
	OnLost invalidation.OnLost
	// FromNow starts at the end of the log whatever the Sink remembers,
	// purges nothing and prunes nothing, for a look at what comes in.
	FromNow bool
	// Poll is the pause between two looks at the table. Default 20 ms.
	Poll time.Duration
	// Retention is how long rows stay after they were applied, for a cache
	// that goes back in time. Default 1 h.
	Retention time.Duration
	// Observer hears what the source does. Default: nobody.
	Observer invalidation.Observer
}

// SQLiteConfig describes an outbox in SQLite and the cache that it is relayed
// to. The fields mean what they mean in PostgresConfig.
type SQLiteConfig struct {
	Name      string  // default "sqlite"
	DB        *sql.DB // the caller's; stays open
	Sink      invalidation.Sink
	Purge     []string
	OnLost    invalidation.OnLost
	FromNow   bool
	Poll      time.Duration
	Retention time.Duration
	Observer  invalidation.Observer
}

// NewPostgres checks the configuration and opens no connection. Its error
// joins one line for each mistake.
func NewPostgres(cfg PostgresConfig) (*Source, error) {
	s := &Source{
		name: cfg.Name, sink: cfg.Sink, purge: cfg.Purge, onLost: cfg.OnLost, fromNow: cfg.FromNow,
		poll: cfg.Poll, retention: cfg.Retention, observer: cfg.Observer,
	}
	if s.name == "" {
		s.name = cfg.Database
	}
	errs := s.check()
	if len(cfg.Hosts) == 0 {
		errs = append(errs, errors.New(`hosts: is empty: name at least one, such as "127.0.0.1:5432"`))
	}
	servers := make([]server, len(cfg.Hosts))
	for i, host := range cfg.Hosts {
		var err error
		if servers[i], err = parseServer(host); err != nil {
			errs = append(errs, fmt.Errorf("hosts[%d]: %w", i, err))
		}
	}
	if cfg.User == "" {
		errs = append(errs, errors.New("user: is empty"))
	}
	if cfg.Database == "" {
		errs = append(errs, errors.New("database: is empty"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.log = &postgresLog{source: s, servers: servers, user: cfg.User, password: cfg.Password, database: cfg.Database, tls: cfg.TLS}
	return s, nil
}

// NewSQLite checks the configuration and does not touch the database. Its
// error joins one line for each mistake.
func NewSQLite(cfg SQLiteConfig) (*Source, error) {
	s := &Source{
		name: cfg.Name, sink: cfg.Sink, purge: cfg.Purge, onLost: cfg.OnLost, fromNow: cfg.FromNow,
		poll: cfg.Poll, retention: cfg.Retention, observer: cfg.Observer,
	}
	if s.name == "" {
		s.name = "sqlite"
	}
	errs := s.check()
	if cfg.DB == nil {
		errs = append(errs, errors.New("db: is nil"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.log = &sqliteLog{source: s, db: cfg.DB}
	return s, nil
}

// check fills in the defaults and lists what is wrong.
func (s *Source) check() []error {
	var errs []error
	if s.sink == nil {
		errs = append(errs, errors.New("sink: is nil"))
	}
	if err := s.onLost.Check(); err != nil {
		errs = append(errs, fmt.Errorf("on_lost_position: %w", err))
	}
	for i, glob := range s.purge {
		if err := invalidation.CheckPattern(glob); err != nil {
			errs = append(errs, fmt.Errorf("purge[%d]: %q %w", i, glob, err))
		}
	}
	if len(s.purge) == 0 && s.onLost != invalidation.FailOnLost && !s.fromNow {
		errs = append(errs, errors.New(`purge: is empty: list globs that cover every key that is enqueued, such as "order:*", or set on_lost_position: fail`))
	}
	if s.poll < 0 {
		errs = append(errs, fmt.Errorf("poll: %v is negative", s.poll))
	}
	if s.retention < 0 {
		errs = append(errs, fmt.Errorf("retention: %v is negative", s.retention))
	}
	if s.poll == 0 {
		s.poll = defaultPoll
	}
	if s.retention == 0 {
		s.retention = defaultRetention
	}
	if s.observer == nil {
		s.observer = invalidation.NoObserver()
	}
	return errs
}

// server is one address.
type server struct {
	host string
	port uint16
}

func (s server) String() string { return net.JoinHostPort(s.host, strconv.Itoa(int(s.port))) }

func parseServer(text string) (server, error) {
	host, port, err := net.SplitHostPort(text)
	number, errPort := strconv.ParseUint(port, 10, 16)
	if err != nil || errPort != nil || host == "" || number == 0 {
		return server{}, fmt.Errorf("%q is not host:port, such as \"127.0.0.1:5432\"", text)
	}
	return server{host: host, port: uint16(number)}, nil
}
