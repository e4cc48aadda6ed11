package daemon

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// DefaultListen is http.listen where the configuration does not say.
const DefaultListen = "127.0.0.1:8377"

// Config is the content of invalidator.yaml. Load checks it.
type Config struct {
	// Namespace is the prefix of the daemon's own keys. Required.
	Namespace string   `yaml:"namespace"`
	Redis     Redis    `yaml:"redis"`
	Sources   []Source `yaml:"sources"`
	// PurgeRate is the most keys a purge deletes in a second. Default
	// 20,000; -1: no limit.
	PurgeRate int  `yaml:"purge_rate"`
	HTTP      HTTP `yaml:"http"`
	// ShowKeys shows cache keys in logs, which mask them otherwise.
	ShowKeys bool `yaml:"show_keys"`
}

// HTTP is the admin server. Its pages are open to whoever reaches Listen; what
// changes something needs Token there, or comes over Socket.
type HTTP struct {
	// Listen is host:port. Default 127.0.0.1:8377.
	Listen string `yaml:"listen"`
	// Token is what a request that changes something has to bear.
	// Default: none, and such requests are refused on Listen.
	Token     Secret `yaml:"token"`
	TokenFile string `yaml:"token_file"`
	// Socket is the path of a Unix socket that only the daemon's own user
	// can open, where everything is served without a token. Default: none.
	Socket string `yaml:"socket"`
}

// The modes of Redis.
const (
	modeStandalone = "standalone"
	modeSentinel   = "sentinel"
	modeCluster    = "cluster"
)

// Redis is the cache.
type Redis struct {
	// Mode is "standalone", the default, "sentinel" or "cluster".
	Mode string `yaml:"mode"`
	// Addrs are host:port: of the one standalone server, of the Sentinels,
	// or of some nodes of the cluster.
	Addrs        []string `yaml:"addrs"`
	Username     string   `yaml:"username"`
	Password     Secret   `yaml:"password"`
	PasswordFile string   `yaml:"password_file"`
	// DB is the number of the logical database. Default 0, which is the only
	// one of a cluster.
	DB  int  `yaml:"db"`
	TLS *TLS `yaml:"tls"`
	// MasterName is what the Sentinels call the master. Required in the mode
	// sentinel, refused in others, as are the login at the Sentinels
	// themselves, which has no default.
	MasterName           string `yaml:"master_name"`
	SentinelUsername     string `yaml:"sentinel_username"`
	SentinelPassword     Secret `yaml:"sentinel_password"`
	SentinelPasswordFile string `yaml:"sentinel_password_file"`
}

// Source is one log; exactly one of MySQL and Postgres is set.
type Source struct {
	// Name appears in logs, and in the cache beside the namespace.
	Name     string    `yaml:"name"`
	MySQL    *MySQL    `yaml:"mysql"`
	Postgres *Postgres `yaml:"postgres"`
	// ReadsFrom lists further servers that loaders read, as host:port.
	ReadsFrom []string `yaml:"reads_from"`
	// OnLostPosition is "purge", the default, or "fail".
	OnLostPosition OnLost `yaml:"on_lost_position"`
	// SecondDelete is "none", the default, or a duration such as "5s".
	SecondDelete SecondDelete `yaml:"second_delete"`
	// Rules say which keys the rows of a MySQL source make stale.
	Rules []Rule `yaml:"rules"`
	// Purge lists the globs to delete when a Postgres source lost its
	// position.
	Purge []string `yaml:"purge"`
}

// kind returns "mysql" or "postgres".
func (s Source) kind() string {
	if s.Postgres != nil {
		return "postgres"
	}
	return "mysql"
}

// hosts returns where the log is: servers, and in Postgres the database there.
func (s Source) hosts() []string {
	if s.MySQL != nil {
		return s.MySQL.Hosts
	}
	hosts := make([]string, len(s.Postgres.Hosts))
	for i, host := range s.Postgres.Hosts {
		hosts[i] = host + "/" + s.Postgres.Database
	}
	return hosts
}

// patterns returns the globs that match everything the source may delete.
func (s Source) patterns() ([]string, error) {
	if s.MySQL == nil {
		return slices.Clone(s.Purge), nil
	}
	rules, err := invalidation.NewRules(s.MappingRules())
	if err != nil {
		return nil, err
	}
	patterns := rules.Patterns(nil, "*", "*")
	slices.Sort(patterns)
	return slices.Compact(patterns), nil
}

// MySQL is a MySQL or MariaDB server.
type MySQL struct {
	Hosts        []string `yaml:"hosts"`
	User         string   `yaml:"user"`
	Password     Secret   `yaml:"password"`
	PasswordFile string   `yaml:"password_file"`
	TLS          *TLS     `yaml:"tls"`
}

// Postgres is a Postgres server whose outbox table is read.
type Postgres struct {
	Hosts        []string `yaml:"hosts"`
	User         string   `yaml:"user"`
	Password     Secret   `yaml:"password"`
	PasswordFile string   `yaml:"password_file"`
	Database     string   `yaml:"database"`
	TLS          *TLS     `yaml:"tls"`
}

// Rule says which keys the rows of a table appear in: see invalidation.Rule.
type Rule struct {
	Table   string   `yaml:"table"`
	Keys    []string `yaml:"keys"`
	Columns []string `yaml:"columns"`
}

// OnLost is invalidation.OnLost as the configuration spells it.
type OnLost struct{ invalidation.OnLost }

// UnmarshalText reads "purge" or "fail".
func (o *OnLost) UnmarshalText(text []byte) error {
	o.OnLost = invalidation.OnLost(text)
	return o.Check()
}

// SecondDelete is the delay until the second delete; 0: none.
type SecondDelete time.Duration

// UnmarshalText reads "none" or a positive duration.
func (d *SecondDelete) UnmarshalText(text []byte) error {
	switch string(text) {
	case "none":
		return nil
	case "auto":
		return errors.New(`"auto" is not supported yet: write "none" or a duration such as "5s"`)
	}
	delay, err := time.ParseDuration(string(text))
	if err != nil || delay <= 0 {
		return fmt.Errorf(`%q is not a positive duration: write "none" or a duration such as "5s"`, text)
	}
	*d = SecondDelete(delay)
	return nil
}

// MappingRules returns the rules as the kernel takes them.
func (s Source) MappingRules() []invalidation.Rule {
	rules := make([]invalidation.Rule, len(s.Rules))
	for i, r := range s.Rules {
		rules[i] = invalidation.Rule(r)
	}
	return rules
}

// Redact returns err with every secret of the configuration hidden in its text.
func (c Config) Redact(err error) error { return newRedactor(c.secrets()...).error(err) }

// secrets lists every secret that the configuration holds.
func (c Config) secrets() []string {
	secrets := []string{c.Redis.Password.Reveal(), c.Redis.SentinelPassword.Reveal(), c.HTTP.Token.Reveal()}
	for _, s := range c.Sources {
		if s.MySQL != nil {
			secrets = append(secrets, s.MySQL.Password.Reveal())
		}
		if s.Postgres != nil {
			secrets = append(secrets, s.Postgres.Password.Reveal())
		}
	}
	return secrets
}
