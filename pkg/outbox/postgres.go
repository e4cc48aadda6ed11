package outbox

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// postgresLog is the outbox of one Postgres database.
type postgresLog struct {
	source         *Source
	servers        []server
	user, password string
	database       string
	tls            *tls.Config
	worked         atomic.Bool // it was connected to a primary once
	noted          sync.Map    // subjects that the Observer has been told of
}

func (l *postgresLog) follow(ctx context.Context, positions []string, emit func(step) error) error {
	s, err := l.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if err := l.read(ctx, s, positions, emit); ctx.Err() == nil {
		return l.explain(s.server, err)
	}
	return ctx.Err()
}

func (l *postgresLog) read(ctx context.Context, s *session, positions []string, emit func(step) error) error {
	t := &tail{source: l.source, emit: emit, moment: s.moment, rows: s.rows, flushed: s.flushed, limit: chunkRows}
	first, err := s.moment(ctx)
	if err != nil {
		return err
	}
	if err := l.require(ctx, s); err != nil {
		return err
	}
	l.source.observe(invalidation.Event{Kind: invalidation.Working})
	var reason string
	if t.at, reason, err = s.resume(ctx, positions, first, l.source.fromNow); err != nil {
		return err
	}
	if reason != "" {
		if err := l.source.lost(reason); err != nil {
			return err
		}
		if err := s.disown(ctx); err != nil {
			return err
		}
		if err := t.lose(ctx); err != nil {
			return err
		}
	}
	return t.follow(ctx)
}

// connect opens a session with the first server that is a primary.
func (l *postgresLog) connect(ctx context.Context) (*session, error) {
	var errs []error
	standbys := 0
	for _, srv := range l.servers {
		s, err := l.open(ctx, srv)
		if err == nil {
			l.worked.Store(true)
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		err = l.explain(srv, err)
		if errors.Is(err, invalidation.ErrFatal) {
			return nil, err
		}
		if errors.Is(err, errRecovery) {
			standbys++
		}
		errs = append(errs, err)
	}
	err := joinLine(errs)
	// Once it was right, a standby is on its way to become the primary.
	if standbys == len(l.servers) && !l.worked.Load() {
		return nil, invalidation.Fatal(err)
	}
	return nil, err
}

func (l *postgresLog) open(ctx context.Context, srv server) (*session, error) {
	cfg, err := l.config(srv)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, server: srv}
	if err := s.inspect(ctx, l.source.fromNow); err != nil {
		s.close(ctx)
		return nil, err
	}
	return s, nil
}

// config sets every field that the environment may have set differently.
func (l *postgresLog) config(srv server) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig("host=127.0.0.1 user=none password=none dbname=none sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("prepare the connection: %w", err)
	}
	cfg.Host, cfg.Port, cfg.Fallbacks = srv.host, srv.port, nil
	cfg.User, cfg.Password, cfg.Database = l.user, l.password, l.database
	cfg.ConnectTimeout, cfg.ValidateConnect = connectTimeout, nil
	cfg.RuntimeParams = map[string]string{"application_name": "invalidator"}
	if l.tls != nil {
		cfg.TLSConfig = l.tls.Clone()
		if cfg.TLSConfig.ServerName == "" {
			cfg.TLSConfig.ServerName = srv.host
		}
	}
	return cfg, nil
}

// explain makes one line of an error, with what to do, and marks what only a
// person can heal. The password is in none of them: pgx keeps it out.
func (l *postgresLog) explain(srv server, err error) error {
	if errors.Is(err, invalidation.ErrFatal) {
		return err
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		err = refused
	} else if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = failed.Unwrap()
	}
	at := "postgres " + srv.String()
	state := sqlState(err)
	user := pgx.Identifier{l.user}.Sanitize()
	switch {
	case strings.HasPrefix(state, "28"):
		return invalidation.Fatal(invalidation.AdvisedError{Err: fmt.Errorf("%s refuses the login: %w", at, err), Fix: "check user, password_file, tls and the server's pg_hba.conf"})
	case state == "3D000":
		return invalidation.Fatal(invalidation.AdvisedError{Err: fmt.Errorf("%s: %w", at, err), Fix: "check database"})
	case state == "42501", errors.Is(err, errPrivilege):
		return invalidation.Fatal(invalidation.AdvisedError{Err: fmt.Errorf("%s: %w", at, err), Fix: fmt.Sprintf("run GRANT USAGE ON SCHEMA cache_outbox TO %[1]s; "+
			"GRANT SELECT, DELETE ON cache_outbox.events TO %[1]s; GRANT SELECT, UPDATE ON cache_outbox.state TO %[1]s", user)})
	case schemaMissing(err):
		return invalidation.Fatal(invalidation.AdvisedError{Err: fmt.Errorf("%s: database %q has no outbox: %w", at, l.database, err), Fix: migrateUp})
	}
	err = fmt.Errorf("%s: %w", at, oneLineError{err})
	if fix := l.advice(state, err); fix != "" {
		return invalidation.AdvisedError{Err: err, Fix: fix}
	}
	return err
}

// advice says how to mend what is waited for, "" where that is not known.
func (l *postgresLog) advice(state string, err error) string {
	const tooManyConnections = "53300"
	refused, _ := errors.AsType[*pgconn.PgError](err)
	switch {
	case strings.Contains(err.Error(), "server refused TLS connection"): // pgx has no type for it
		return "remove tls from the configuration, or ALTER SYSTEM SET ssl = on, with ssl_cert_file and ssl_key_file"
	case state != tooManyConnections:
		return ""
	case refused.Routine == "InitializeSessionUserId": // the message may be in any language
		return "run ALTER ROLE " + pgx.Identifier{l.user}.Sanitize() + " CONNECTION LIMIT -1"
	case refused.Routine == "CheckMyDatabase":
		return "run ALTER DATABASE " + pgx.Identifier{l.database}.Sanitize() + " CONNECTION LIMIT -1"
	}
	return "raise max_connections, or end connections that nobody needs"
}

var errPrivilege = errors.New("the user lacks a privilege on the outbox")

// oneLineError takes the line breaks out of an error's text.
type oneLineError struct{ error }

func (e oneLineError) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }
func (e oneLineError) Unwrap() error { return e.error }

// joinLine joins errors on one line.
func joinLine(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return oneLineError{errors.Join(errs...)}
}
