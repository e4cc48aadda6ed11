package servers

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// MySQLServer is a MySQL server with row-based binlog, GTIDs and full row metadata, its data on disk.
type MySQLServer struct{ *Server }

// MySQL returns the MySQL server that the tests of this process share.
func MySQL(tb testing.TB) *MySQLServer {
	tb.Helper()
	s, err := sharedMySQL.get(tb.Context())
	check(tb, err, "start the shared MySQL")
	return s
}

// NewMySQL starts a MySQL server of the test's own, with additional arguments for mysqld, and removes it when the test ends.
func NewMySQL(tb testing.TB, args ...string) *MySQLServer {
	tb.Helper()
	s, err := startMySQL(tb.Context(), args)
	check(tb, err, "start a MySQL")
	s.cleanup(tb)
	return s
}

// User returns the name of an account that may do everything.
func (s *MySQLServer) User() string { return "root" }

// Password returns the password of User.
func (s *MySQLServer) Password() string { return password }

// DSN returns User's data source name for a database ("" for none), for the driver "mysql".
func (s *MySQLServer) DSN(database string) string { return mysqlConfig(s.Addr(), database).FormatDSN() }

// DB opens a pool as User on a database ("" for none) and closes it when the test ends.
func (s *MySQLServer) DB(tb testing.TB, database string) *sql.DB {
	tb.Helper()
	db, err := openMySQL(s.Addr(), database)
	check(tb, err, "open a MySQL pool")
	tb.Cleanup(func() { check(tb, db.Close(), "close a MySQL pool") })
	return db
}

// Database creates a database of the test's own, and drops it when the test ends and the server is still there.
func (s *MySQLServer) Database(tb testing.TB) (name string, db *sql.DB) {
	tb.Helper()
	name = uniqueName(tb)
	admin := s.DB(tb, "")
	_, err := admin.ExecContext(tb.Context(), "CREATE DATABASE "+name)
	check(tb, err, "create a database")
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), dropTimeout)
		defer cancel()
		if _, err := admin.ExecContext(ctx, "DROP DATABASE IF EXISTS "+name); err != nil {
			tb.Logf("drop database %s: %v", name, err)
		}
	})
	return name, s.DB(tb, name)
}

func startMySQL(ctx context.Context, args []string) (*MySQLServer, error) {
	s, err := spec{
		imageVariable: "INVALIDATOR_TEST_MYSQL_IMAGE",
		image:         "mysql:9.7",
		port:          "3306/tcp",
		env:           map[string]string{"MYSQL_ROOT_PASSWORD": password},
		cmd: append([]string{
			"--server-id=1", "--log-bin=binlog", "--binlog-format=ROW", "--binlog-row-metadata=FULL",
			"--gtid-mode=ON", "--enforce-gtid-consistency=ON",
			"--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1",
			"--performance-schema=OFF", "--innodb-buffer-pool-size=128M", "--max-connections=500",
		}, args...),
		probe: func(ctx context.Context, addr string) error {
			db, err := openMySQL(addr, "")
			if err != nil {
				return err
			}
			defer db.Close()
			_, err = db.ExecContext(ctx, "SELECT 1")
			return err
		},
	}.start(ctx)
	if err != nil {
		return nil, err
	}
	return &MySQLServer{s}, nil
}

func mysqlConfig(addr, database string) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = "root", password, "tcp", addr, database
	cfg.ParseTime = true
	return cfg
}

func openMySQL(addr, database string) (*sql.DB, error) {
	cfg := mysqlConfig(addr, database)
	cfg.Logger = &mysql.NopLogger{} // tests kill servers; that is no news
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("MySQL address %s: %w", addr, err)
	}
	return sql.OpenDB(connector), nil
}
