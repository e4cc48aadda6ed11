// Package outbox carries cache keys through the database: a writer enqueues,
// in the transaction that changes the data, the keys that become stale, and a
// relay deletes them from the cache once that transaction has committed. A
// transaction that rolls back deletes nothing; one that commits is never
// forgotten, whatever crashes.
//
//	err := outbox.Enqueue(ctx, tx, "user:1", "user:email:a@example.com")   // any writer, before its commit
//
//	source, err := outbox.NewPostgres(outbox.PostgresConfig{…})            // one relay
//	err = source.Run(ctx)
//
// The schema comes from "invalidator migrate up", or package migrations.
//
// # How the relay reads
//
// Ids are given out in one order and committed in another, so a cursor on an
// id passes rows that are not there yet. The relay of Postgres reads by
// snapshot difference instead: every row carries its transaction id, every
// round notes pg_current_snapshot(), and the rows of those transactions that
// the last snapshot did not see and this one does are exactly what committed
// in between. (The idea is that of pg_snapshot's predecessor, txid_snapshot of
// PgQ.) No transaction stays open between two statements.
//
// SQLite has one writer at a time, so there a cursor on the id is right.
package outbox
