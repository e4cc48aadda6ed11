package integration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
)

// outboxSQL opens a database through database/sql with the smallest driver that will do. It knows text, numbers, booleans and
// times, and nothing of arrays, so that what works with it works with every driver.
func outboxSQL(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db := sql.OpenDB(tinyConnector{dsn})
	t.Cleanup(func() { db.Close() })
	return db
}

type tinyConnector struct{ dsn string }

func (c tinyConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := pgx.Connect(ctx, c.dsn)
	return tinyConn{conn}, err
}

func (c tinyConnector) Driver() driver.Driver { return nil }

type tinyConn struct{ conn *pgx.Conn }

func (c tinyConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not prepared") }
func (c tinyConn) Close() error                        { return c.conn.Close(context.Background()) }
func (c tinyConn) Begin() (driver.Tx, error)           { return nil, errors.New("no context") }

func (c tinyConn) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	_, err := c.conn.Exec(ctx, "BEGIN")
	return tinyTx(c), err
}

func (c tinyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	tag, err := c.conn.Exec(ctx, query, plainArgs(args)...)
	return driver.RowsAffected(tag.RowsAffected()), err
}

func (c tinyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.conn.Query(ctx, query, plainArgs(args)...)
	return tinyRows{rows}, err
}

func plainArgs(args []driver.NamedValue) []any {
	plain := make([]any, len(args))
	for i, arg := range args {
		plain[i] = arg.Value
	}
	return plain
}

type tinyTx struct{ conn *pgx.Conn }

func (t tinyTx) Commit() error   { return t.end("COMMIT") }
func (t tinyTx) Rollback() error { return t.end("ROLLBACK") }

func (t tinyTx) end(how string) error {
	_, err := t.conn.Exec(context.Background(), how)
	return err
}

type tinyRows struct{ pgx.Rows }

func (r tinyRows) Columns() []string {
	names := make([]string, len(r.FieldDescriptions()))
	for i, field := range r.FieldDescriptions() {
		names[i] = field.Name
	}
	return names
}

func (r tinyRows) Close() error {
	r.Rows.Close()
	return r.Err()
}

func (r tinyRows) Next(dest []driver.Value) error {
	if !r.Rows.Next() {
		if err := r.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	values, err := r.Values()
	for i, value := range values {
		if narrow, ok := value.(int32); ok {
			value = int64(narrow)
		}
		dest[i] = value
	}
	return err
}
