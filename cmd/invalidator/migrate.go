package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"time"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
	"github.com/seed-038af1a6/invalidator/migrations"
)

type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Apply every migration that is missing."`
	Down   migrateDown   `cmd:"" help:"Take back the newest migration."`
	Status migrateStatus `cmd:"" help:"List the migrations and when they were applied."`
	Print  migratePrint  `cmd:"" help:"Print the SQL, for another tool to apply."`
}

// database is how the subcommands that need one find it.
type database struct {
	configFlag

	Source string `help:"The postgres source, where there are several." placeholder:"NAME"`
}

// with calls do with an open database.
func (d database) with(env *environment, do func(ctx context.Context, db *sql.DB, out io.Writer) error) error {
	cfg, err := d.load(env, false)
	if err != nil {
		return err
	}
	src, err := cfg.PostgresSource(d.Source)
	if err != nil {
		return usageError{err}
	}
	db, err := daemon.OpenPostgres(src)
	if err != nil {
		return err
	}
	defer db.Close()
	return cfg.Redact(do(env, db, env.out))
}

type migrateUp struct{ database }

// Run implements the command.
func (c migrateUp) Run(env *environment) error {
	return c.with(env, func(ctx context.Context, db *sql.DB, out io.Writer) error {
		applied, err := migrations.Up(ctx, db)
		for _, name := range applied {
			_, _ = fmt.Fprintln(out, "applied "+name)
		}
		if err == nil && len(applied) == 0 {
			_, _ = fmt.Fprintln(out, "nothing to apply")
		}
		return err
	})
}

type migrateDown struct{ database }

// Run implements the command.
func (c migrateDown) Run(env *environment) error {
	return c.with(env, func(ctx context.Context, db *sql.DB, out io.Writer) error {
		name, err := migrations.Down(ctx, db)
		if err != nil {
			return err
		}
		if name == "" {
			_, _ = fmt.Fprintln(out, "nothing to take back")
			return nil
		}
		_, _ = fmt.Fprintln(out, "took back "+name)
		return nil
	})
}

type migrateStatus struct{ database }

// Run implements the command.
func (c migrateStatus) Run(env *environment) error {
	return c.with(env, func(ctx context.Context, db *sql.DB, out io.Writer) error {
		states, err := migrations.Status(ctx, db)
		for _, s := range states {
			when := "not applied"
			if s.Applied {
				when = "applied " + s.AppliedAt.UTC().Format(time.RFC3339)
			}
			_, _ = fmt.Fprintf(out, "%s  %s\n", s.Name, when)
		}
		return err
	})
}

type migratePrint struct{}

// Run implements the command.
func (migratePrint) Run(env *environment) error {
	_, err := io.WriteString(env.out, migrations.Print())
	return err
}
