// Package migrations holds the schema of the outbox and installs it.
//
// Everything lives in a schema of its own, cache_outbox, with the table that
// remembers which migrations were applied; SQLite has no schemas, so there the
// tables begin with cache_outbox_. The functions take an open *sql.DB of any
// driver and may be called by several processes at once.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed postgres/*.sql
var postgres embed.FS

//go:embed sqlite/*.sql
var sqlite embed.FS

const (
	postgresTable = "cache_outbox.migrations"
	sqliteTable   = "cache_outbox_migrations"
)

// State says whether one migration was applied.
type State struct {
	Name      string // such as 00001_outbox.sql
	Applied   bool
	AppliedAt time.Time // zero where it was not
}

// Up applies every migration that the Postgres database lacks and returns the
// names of those it applied, oldest first.
func Up(ctx context.Context, db *sql.DB) ([]string, error) {
	if err := createSchema(ctx, db); err != nil {
		return nil, err
	}
	p, err := forPostgres(db)
	if err != nil {
		return nil, err
	}
	return up(ctx, p)
}

// Down takes back the newest migration and returns its name, "" where none is
// left. With the last one the schema goes too. What was enqueued and not read
// yet is lost.
func Down(ctx context.Context, db *sql.DB) (string, error) {
	there, err := hasSchema(ctx, db)
	if err != nil || !there {
		return "", err
	}
	p, err := forPostgres(db)
	if err != nil {
		return "", err
	}
	name, left, err := down(ctx, p)
	if err != nil || left > 0 {
		return name, err
	}
	return name, dropSchema(ctx, db)
}

// Status lists every migration, oldest first. It changes nothing.
func Status(ctx context.Context, db *sql.DB) ([]State, error) {
	there, err := hasSchema(ctx, db)
	if err != nil {
		return nil, err
	}
	if !there {
		return unapplied()
	}
	p, err := forPostgres(db)
	if err != nil {
		return nil, err
	}
	found, err := p.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the state of the migrations: %w", err)
	}
	states := make([]State, len(found))
	for i, s := range found {
		states[i] = State{Name: s.Source.Path, Applied: s.State == goose.StateApplied, AppliedAt: s.AppliedAt}
	}
	return states, nil
}

// Print returns the SQL that Up runs on an empty Postgres database, for those
// who apply it with a tool of their own. It remembers nothing about itself.
func Print() string {
	var b strings.Builder
	b.WriteString("CREATE SCHEMA IF NOT EXISTS cache_outbox;\n\n")
	names, _ := fs.Glob(postgres, "postgres/*.sql") // the pattern is well-formed
	for _, name := range names {
		text, _ := postgres.ReadFile(name) // Glob has just found it
		up, _, _ := strings.Cut(string(text), "-- +goose Down")
		for line := range strings.Lines(up) {
			if !strings.HasPrefix(line, "-- +goose") {
				b.WriteString(line)
			}
		}
	}
	return strings.TrimSpace(b.String()) + "\n"
}

// UpSQLite is Up for an SQLite database.
func UpSQLite(ctx context.Context, db *sql.DB) ([]string, error) {
	p, err := forSQLite(db)
	if err != nil {
		return nil, err
	}
	return up(ctx, p)
}

// DownSQLite is Down for an SQLite database.
func DownSQLite(ctx context.Context, db *sql.DB) (string, error) {
	p, err := forSQLite(db)
	if err != nil {
		return "", err
	}
	name, left, err := down(ctx, p)
	if err != nil || left > 0 {
		return name, err
	}
	if _, err := db.ExecContext(ctx, "DROP TABLE IF EXISTS "+sqliteTable); err != nil {
		return name, fmt.Errorf("drop the table of migrations: %w", err)
	}
	return name, nil
}

func up(ctx context.Context, p *goose.Provider) ([]string, error) {
	results, err := p.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate up: %w", err)
	}
	var names []string
	for _, r := range results {
		names = append(names, r.Source.Path)
	}
	return names, nil
}

// down also returns how many migrations are left.
func down(ctx context.Context, p *goose.Provider) (name string, left int64, err error) {
	result, err := p.Down(ctx)
	switch {
	case errors.Is(err, goose.ErrNoNextVersion):
	case err != nil:
		return "", 0, fmt.Errorf("migrate down: %w", err)
	default:
		name = result.Source.Path
	}
	left, err = p.GetDBVersion(ctx)
	if err != nil {
		return name, 0, fmt.Errorf("read the version after migrating down: %w", err)
	}
	return name, left, nil
}

func forPostgres(db *sql.DB) (*goose.Provider, error) {
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, fmt.Errorf("prepare the migrations: %w", err)
	}
	files, err := fs.Sub(postgres, "postgres")
	if err != nil {
		return nil, fmt.Errorf("prepare the migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName(postgresTable),
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, fmt.Errorf("prepare the migrations: %w", err)
	}
	return p, nil
}

func forSQLite(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(sqlite, "sqlite")
	if err != nil {
		return nil, fmt.Errorf("prepare the migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithTableName(sqliteTable),
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, fmt.Errorf("prepare the migrations: %w", err)
	}
	return p, nil
}

func unapplied() ([]State, error) {
	names, err := fs.Glob(postgres, "postgres/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list the migrations: %w", err)
	}
	states := make([]State, len(names))
	for i, name := range names {
		states[i].Name = strings.TrimPrefix(name, "postgres/")
	}
	return states, nil
}
