package outbox_test

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/outbox"
)

// A writer names what becomes stale in the transaction that makes it stale.
func ExampleEnqueue() {
	rename := func(ctx context.Context, conn *pgx.Conn, id int, name string) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "UPDATE users SET name = $2 WHERE id = $1", id, name); err != nil {
				return err
			}
			return outbox.Enqueue(ctx, tx, "user:1", "user:names")
		})
	}
	_ = rename
}

// One relay beside the database deletes what the writers named.
func ExampleNewPostgres() {
	relay := func(ctx context.Context, sink invalidation.Sink, password string) error {
		source, err := outbox.NewPostgres(outbox.PostgresConfig{
			Hosts: []string{"127.0.0.1:5432"}, User: "relay", Password: password, Database: "shop",
			Sink:  sink,
			Purge: []string{"user:*"},
		})
		if err != nil {
			return err
		}
		return source.Run(ctx)
	}
	_ = relay
}
