package daemon

import (
	"errors"
	"fmt"
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

// HTTP is the admin server.
type HTTP struct {
	// Listen is host:port. Default 127.0.0.1:8377.
	Listen string `yaml:"listen"`
}

// Redis is the cache.
type Redis struct {
	// Mode is "standalone", the default. Others are refused for now.
	Mode string `yaml:"mode"`
	// Addrs is the one host:port of a standalone server.
	Addrs        []string `yaml:"addrs"`
	Username     string   `yaml:"username"`
	Password     Secret   `yaml:"password"`
	PasswordFile string   `yaml:"password_file"`
	// DB is the number of the logical database. Default 0.
	DB  int  `yaml:"db"`
	TLS *TLS `yaml:"tls"`
	// MasterName is for the mode "sentinel".
	MasterName string `yaml:"master_name"`
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
	secrets := []string{c.Redis.Password.Reveal()}
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
