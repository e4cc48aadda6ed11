package outbox

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

//go:embed sql/sqlite_enqueue.sql
var sqliteEnqueueSQL string

// Enqueue has the keys deleted from the cache once tx commits. It takes a
// transaction, and no pool, because keys that are enqueued outside of the
// transaction that changes the data can be deleted too early, or never.
//
// Each key is text as Postgres has it: not empty, valid UTF-8, no zero bytes.
// No keys: nothing happens. After an error tx is good for nothing but a
// rollback, as after any other failed statement.
func Enqueue(ctx context.Context, tx pgx.Tx, keys ...string) error {
	if err := checkKeys(keys); err != nil || len(keys) == 0 {
		return err
	}
	_, err := tx.Exec(ctx, "SELECT cache_outbox.enqueue(VARIADIC $1::text[])", keys)
	return enqueued(err)
}

// EnqueueSQL is Enqueue for Postgres through database/sql, with any driver.
func EnqueueSQL(ctx context.Context, tx *sql.Tx, keys ...string) error {
	if err := checkKeys(keys); err != nil || len(keys) == 0 {
		return err
	}
	// Drivers disagree about slices. Every one of them can send text.
	_, err := tx.ExecContext(ctx, "SELECT cache_outbox.enqueue(VARIADIC $1::text::text[])", arrayLiteral(keys))
	return enqueued(err)
}

// EnqueueSQLite is Enqueue for SQLite, with any driver that has JSON functions.
func EnqueueSQLite(ctx context.Context, tx *sql.Tx, keys ...string) error {
	if err := checkKeys(keys); err != nil || len(keys) == 0 {
		return err
	}
	list, err := json.Marshal(keys)
	if err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	_, err = tx.ExecContext(ctx, sqliteEnqueueSQL, string(list))
	return enqueued(err)
}

func checkKeys(keys []string) error {
	for i, key := range keys {
		switch {
		case key == "":
			return fmt.Errorf("enqueue: keys[%d] is empty", i)
		case !utf8.ValidString(key):
			return fmt.Errorf("enqueue: keys[%d] is not valid UTF-8: %q", i, key)
		case strings.IndexByte(key, 0) >= 0:
			return fmt.Errorf("enqueue: keys[%d] has a zero byte: %q", i, key)
		}
	}
	return nil
}

func enqueued(err error) error {
	switch {
	case err == nil:
		return nil
	case schemaMissing(err):
		return fmt.Errorf("enqueue: %w: %s", err, migrateUp)
	}
	return fmt.Errorf("enqueue: %w", err)
}

const migrateUp = `run "invalidator migrate up"`

// schemaMissing reports whether err says that the schema, a table or the
// function is not there, in the words of whichever driver.
func schemaMissing(err error) bool {
	switch sqlState(err) {
	case "3F000", "42P01", "42883":
		return true
	}
	return strings.Contains(err.Error(), "no such table: cache_outbox")
}

// sqlState returns the SQLSTATE of err, "" where it has none. pgx and lib/pq
// both have the method.
func sqlState(err error) string {
	if coded, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return coded.SQLState()
	}
	return ""
}

// arrayLiteral writes keys as the text form of a Postgres array. Each element
// is quoted, so that NULL, braces, commas and spaces are text.
func arrayLiteral(keys []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		for j := range len(key) {
			if key[j] == '"' || key[j] == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(key[j])
		}
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}
