package binlog

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// Config describes one MySQL server and what to do with its log.
type Config struct {
	// Name is how messages call this source. Required.
	Name string
	// Hosts are host:port, tried in order. Required.
	Hosts []string
	// User and Password log in. User is required. It needs, directly or by
	// a role that is active from the login on (SET DEFAULT ROLE),
	//
	//	REPLICATION SLAVE ON *.*    to read the log
	//	REPLICATION CLIENT ON *.*   for Rewind, the bytes of Lag, and a part of Check
	//	SELECT                      on the tables that the rules name, so that their
	//	                            columns and foreign keys can be checked
	//
	// and nothing else, and on the servers of ReadsFrom the second alone.
	User, Password string
	// TLS is the transport's configuration. Default: no TLS.
	TLS *tls.Config
	// Mapper says which keys a row makes stale. Required.
	Mapper invalidation.KeyMapper
	// Sink deletes them and remembers the position. Required.
	Sink invalidation.Sink
	// OnLost is what to do without a usable position. Default: purge.
	OnLost invalidation.OnLost
	// ReadsFrom are further servers, host:port, that loaders read. A delete
	// waits until the commit is visible there too. Default: none.
	ReadsFrom []string
	// GateTimeout bounds one wait for a commit to become visible. What is
	// not visible by then makes the Source reconnect. Default: 10 s.
	GateTimeout time.Duration
	// FromNow starts at the log's end, whatever the Sink remembers, and
	// purges nothing: for a dry run.
	FromNow bool
	// WithoutGate deletes when an event arrives, before its commit is
	// visible, which leaves stale entries. It is there so that tests and
	// measurements can show what the gate is for and what it costs.
	WithoutGate bool
	// Observer hears what happens. Default: nobody.
	Observer invalidation.Observer
}

func (c Config) check() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("binlog: Config.Name is empty"))
	}
	if len(c.Hosts) == 0 {
		errs = append(errs, errors.New("binlog: Config.Hosts is empty"))
	}
	for _, host := range append(append([]string{}, c.Hosts...), c.ReadsFrom...) {
		if _, _, err := net.SplitHostPort(host); err != nil {
			errs = append(errs, fmt.Errorf("binlog: host %q is not host:port", host))
		}
	}
	if c.User == "" {
		errs = append(errs, errors.New("binlog: Config.User is empty"))
	}
	if c.Mapper == nil {
		errs = append(errs, errors.New("binlog: Config.Mapper is nil"))
	}
	if c.Sink == nil {
		errs = append(errs, errors.New("binlog: Config.Sink is nil"))
	}
	if c.GateTimeout < 0 {
		errs = append(errs, errors.New("binlog: Config.GateTimeout is negative"))
	}
	if err := c.OnLost.Check(); err != nil {
		errs = append(errs, fmt.Errorf("binlog: Config.OnLost: %w", err))
	}
	return errors.Join(errs...)
}

// newServerID returns a replica's server_id that no other reader has: the
// server ends the older of two readers with the same one.
func newServerID() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint32(b[:]) | 1<<31
}
