// Package invalidation is the kernel that the rest of the project shares: a
// committed row change becomes keys, keys become batches, and a Sink deletes
// them and remembers how far it came.
//
//	Row ── KeyMapper ── keys ── Batch ── Sink
//
// A Source (pkg/binlog, pkg/outbox) reads one log in order and calls a Sink
// (redissink, pkg/delaydelete) from one goroutine. The package imports no
// driver of any kind.
//
// Two rules hold everywhere. Deleting is idempotent and commutes, so every
// doubt is resolved by deleting again. A position never passes a delete that
// was not answered without an error.
package invalidation
