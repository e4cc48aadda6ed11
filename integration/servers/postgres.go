package servers

import (
	"context"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PostgresServer is a Postgres server, its data on disk.
type PostgresServer struct{ *Server }

// Postgres returns the Postgres server that the tests of this process share.
func Postgres(tb testing.TB) *PostgresServer {
	tb.Helper()
	s, err := sharedPostgres.get(tb.Context())
	check(tb, err, "start the shared Postgres")
	return s
}

// NewPostgres starts a Postgres server of the test's own, with additional arguments for postgres ("-c", "wal_level=logical"), and
// removes it when the test ends.
func NewPostgres(tb testing.TB, args ...string) *PostgresServer {
	tb.Helper()
	s, err := startPostgres(tb.Context(), args)
	check(tb, err, "start a Postgres")
	s.cleanup(tb)
	return s
}

// User returns the name of a superuser.
func (s *PostgresServer) User() string { return "postgres" }

// Password returns the password of User.
func (s *PostgresServer) Password() string { return password }

// DSN returns User's connection string for a database ("postgres" exists).
func (s *PostgresServer) DSN(database string) string { return postgresDSN(s.Addr(), database) }

// Conn connects as User to a database and disconnects when the test ends.
func (s *PostgresServer) Conn(tb testing.TB, database string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), s.DSN(database))
	check(tb, err, "connect to Postgres")
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), dropTimeout)
		defer cancel()
		if err := conn.Close(ctx); err != nil {
			tb.Logf("disconnect from Postgres: %v", err)
		}
	})
	return conn
}

// Database creates a database of the test's own, and drops it when the test ends and the server is still there.
func (s *PostgresServer) Database(tb testing.TB) (name, dsn string) {
	tb.Helper()
	name = uniqueName(tb)
	_, err := s.Conn(tb, "postgres").Exec(tb.Context(), "CREATE DATABASE "+name)
	check(tb, err, "create a database")
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), dropTimeout)
		defer cancel()
		if err := s.drop(ctx, name); err != nil {
			tb.Logf("drop database %s: %v", name, err)
		}
	})
	return name, s.DSN(name)
}

// drop takes a connection of its own: the test may have killed the server and started it again.
func (s *PostgresServer) drop(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	return err
}

func startPostgres(ctx context.Context, args []string) (*PostgresServer, error) {
	s, err := spec{
		imageVariable: "INVALIDATOR_TEST_POSTGRES_IMAGE",
		image:         "postgres:18",
		port:          "5432/tcp",
		env:           map[string]string{"POSTGRES_PASSWORD": password, "POSTGRES_INITDB_ARGS": "--no-sync"},
		cmd:           append([]string{"postgres", "-c", "max_connections=300"}, args...),
		probe: func(ctx context.Context, addr string) error {
			conn, err := pgx.Connect(ctx, postgresDSN(addr, "postgres"))
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			_, err = conn.Exec(ctx, "SELECT 1")
			return err
		},
	}.start(ctx)
	if err != nil {
		return nil, err
	}
	return &PostgresServer{s}, nil
}

func postgresDSN(addr, database string) string {
	dsn := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", password), Host: addr, Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return dsn.String()
}
