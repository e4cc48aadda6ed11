package demo

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver

	"github.com/seed-038af1a6/invalidator/migrations"
	"github.com/seed-038af1a6/invalidator/pkg/outbox"
)

var (
	//go:embed sql/users.sql
	usersSQL string
	//go:embed sql/seed.sql
	seedSQL string
	//go:embed sql/load.sql
	loadSQL string
	//go:embed sql/update.sql
	updateSQL string
)

const userCount = 300 // ids 1 to userCount

// user is a row, and what the cache holds of it.
type user struct {
	ID      int    `json:"id"`
	Name    string `json:"name"`
	Age     int    `json:"age"`
	Email   string `json:"email"`
	Version int64  `json:"version"`
}

// database is SQLite in a directory of its own. Readers have connections of
// their own and see only what is committed.
type database struct {
	dir   string
	write *sql.DB // one connection: SQLite has one writer at a time
	read  *sql.DB
}

// openDatabase makes the directory, the outbox and the users.
func openDatabase(ctx context.Context) (*database, error) {
	dir, err := os.MkdirTemp("", "invalidator-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the database: %w", err)
	}
	d := &database{dir: dir}
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *database) open(ctx context.Context) (err error) {
	if d.write, err = sql.Open("sqlite", d.dsn()); err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	d.write.SetMaxOpenConns(1)
	if d.read, err = sql.Open("sqlite", d.dsn()); err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	d.read.SetMaxOpenConns(readers)
	d.read.SetMaxIdleConns(readers)
	if _, err := migrations.UpSQLite(ctx, d.write); err != nil {
		return err
	}
	if _, err := d.write.ExecContext(ctx, usersSQL); err != nil {
		return fmt.Errorf("create the table users: %w", err)
	}
	if _, err := d.write.ExecContext(ctx, seedSQL, userCount); err != nil {
		return fmt.Errorf("fill the table users: %w", err)
	}
	return nil
}

// dsn asks for transactions that begin as writers: one that turns into a
// writer later is refused instead of waiting for its turn.
func (d *database) dsn() string {
	path := filepath.ToSlash(filepath.Join(d.dir, "users.db"))
	if !strings.HasPrefix(path, "/") { // C:/…
		path = "/" + path
	}
	options := url.Values{
		"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)"},
		"_txlock": {"immediate"},
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: options.Encode()}).String()
}

func (d *database) close() error {
	var errs []error
	for _, db := range []*sql.DB{d.read, d.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

// load returns the rows with the ids, in one statement and so of one moment.
func (d *database) load(ctx context.Context, ids ...int) (map[int]user, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("load users: %w", err)
	}
	rows, err := d.read.QueryContext(ctx, loadSQL, string(list))
	if err != nil {
		return nil, fmt.Errorf("load users: %w", err)
	}
	defer rows.Close()
	users := make(map[int]user, len(ids))
	for rows.Next() {
		var u user
		if err := rows.Scan(&u.ID, &u.Name, &u.Age, &u.Email, &u.Version); err != nil {
			return nil, fmt.Errorf("load users: %w", err)
		}
		users[u.ID] = u
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("load users: %w", err)
	}
	return users, nil
}

// update changes a row and enqueues its key in the same transaction. It calls
// committing as the last thing before the commit, with the row's new version.
func (d *database) update(ctx context.Context, id int, committing func(version int64)) error {
	return d.inTx(ctx, "update a user", func(tx *sql.Tx) error {
		var version int64
		if err := tx.QueryRowContext(ctx, updateSQL, id).Scan(&version); err != nil {
			return err
		}
		if err := outbox.EnqueueSQLite(ctx, tx, userKey(id)); err != nil {
			return err
		}
		committing(version)
		return nil
	})
}

// enqueue has the key deleted and changes nothing else.
func (d *database) enqueue(ctx context.Context, key string) error {
	return d.inTx(ctx, "enqueue", func(tx *sql.Tx) error { return outbox.EnqueueSQLite(ctx, tx, key) })
}

func (d *database) inTx(ctx context.Context, doing string, do func(tx *sql.Tx) error) error {
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it has nothing to do
	if err := do(tx); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: commit: %w", doing, err)
	}
	return nil
}
