package migrations

import (
	"context"
	"database/sql"
	"fmt"
)

// createSchema makes the schema before goose puts its table there. The lock
// keeps two that migrate at once from both finding it missing.
func createSchema(ctx context.Context, db *sql.DB) error {
	there, err := hasSchema(ctx, db)
	if err != nil || there {
		return err // CREATE SCHEMA IF NOT EXISTS asks for a right that an owner of the schema may lack
	}
	return inLock(ctx, db, "create the schema cache_outbox", "CREATE SCHEMA IF NOT EXISTS cache_outbox")
}

// dropSchema removes what createSchema and goose made, and nothing that
// somebody else put there.
func dropSchema(ctx context.Context, db *sql.DB) error {
	return inLock(ctx, db, "drop the schema cache_outbox",
		"DROP TABLE IF EXISTS "+postgresTable, "DROP SCHEMA IF EXISTS cache_outbox RESTRICT")
}

func hasSchema(ctx context.Context, db *sql.DB) (there bool, err error) {
	err = db.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'cache_outbox')").Scan(&there)
	if err != nil {
		return false, fmt.Errorf("look for the schema cache_outbox: %w", err)
	}
	return there, nil
}

func inLock(ctx context.Context, db *sql.DB, doing string, statements ...string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it has nothing to do
	statements = append([]string{"SELECT pg_advisory_xact_lock(hashtextextended('cache_outbox.migrations', 0))"}, statements...)
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}
