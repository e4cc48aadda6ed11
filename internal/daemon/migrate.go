package daemon

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// PostgresSource returns the postgres source with the given name, or the only
// one where the name is empty.
func (c Config) PostgresSource(name string) (Source, error) {
	var found []Source
	var names []string
	for _, s := range c.Sources {
		if s.Postgres == nil {
			continue
		}
		names = append(names, s.Name)
		if name == "" || s.Name == name {
			found = append(found, s)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(names) == 0:
		return Source{}, errors.New("the configuration has no postgres source, and only those have an outbox")
	case name == "":
		return Source{}, fmt.Errorf("the configuration has several postgres sources: choose one with --source: %s", strings.Join(names, ", "))
	}
	return Source{}, fmt.Errorf("--source: there is no postgres source %q: there is %s", name, strings.Join(names, ", "))
}

// OpenPostgres returns a handle on the primary among the source's hosts. It
// connects when it is first used. The caller closes it.
func OpenPostgres(src Source) (*sql.DB, error) {
	cfg, err := postgresConfig(*src.Postgres)
	if err != nil {
		return nil, err
	}
	return stdlib.OpenDB(*cfg), nil
}

func postgresConfig(p Postgres) (*pgx.ConnConfig, error) {
	tlsConfig, err := p.TLS.Build()
	if err != nil {
		return nil, err
	}
	// All of it is set, so that nothing comes from PGHOST and the like.
	cfg, err := pgx.ParseConfig("host=127.0.0.1 port=5432 user=none password=none dbname=none sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("prepare the connection: %w", err)
	}
	cfg.User, cfg.Password, cfg.Database = p.User, p.Password.Reveal(), p.Database
	cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	cfg.Fallbacks = nil
	for i, addr := range p.Hosts {
		host, port, err := splitAddress(addr)
		if err != nil {
			return nil, err
		}
		secure := tlsConfig.Clone() // nil stays nil
		if secure != nil && secure.ServerName == "" {
			secure.ServerName = host
		}
		if i == 0 {
			cfg.Host, cfg.Port, cfg.TLSConfig = host, port, secure
			continue
		}
		cfg.Fallbacks = append(cfg.Fallbacks, &pgconn.FallbackConfig{Host: host, Port: port, TLSConfig: secure})
	}
	return cfg, nil
}

func splitAddress(addr string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, errors.New("hosts: not host:port")
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, errors.New("hosts: the port is not a number")
	}
	return host, uint16(number), nil
}
