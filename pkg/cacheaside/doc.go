// Package cacheaside keeps entries in Redis that are loaded on a miss and deleted after a write, and never fills an
// entry that was deleted while it was being loaded.
//
//	rc, err := cacheaside.New(rdb, cacheaside.Options{})
//	users := cacheaside.For[User](rc, cacheaside.Policy{TTL: 10 * time.Minute})
//
//	u, err := users.Get(ctx, "user:42", func(ctx context.Context) (User, error) {
//		return selectUser(ctx, db, 42)
//	})
//
//	err = rc.Write(ctx, func(ctx context.Context) (stale []string, err error) {
//		return []string{"user:42"}, updateUser(ctx, db, 42) // commits
//	})
//
// # The guarantee
//
// While one Redis master answers, and loaders read the primary outside of older transactions, a Get that starts after a
// Delete returned success, in any process, returns nothing whose load began before that delete.
//
// It holds because a read that misses first stores a lease, a random nonce, under the key itself, starts its load after
// the lease was granted, and fills the entry only if the key still holds that very lease. A delete removes the lease
// like any other value, whoever sends it: any DEL or UNLINK, from any client or language, revokes the fills under way.
// A value that is found was therefore filled under a lease that was granted, and loaded, after the last delete. That
// includes values that this read waited for while another held the lease. A read that gives up waiting, or finds Redis
// unreachable, loads for itself, returns that, and fills nothing.
//
// Reads of one process that miss the same key share one load. A read takes what another loaded only if it came before
// that load began, or before the fill that Redis accepted was sent; otherwise a delete may have been done in between, and
// it loads again, once. Refreshes, batches, merged misses and absence are filled by the same compare-and-set. Hits of one
// key share a GET too when there are many at a time, but only one that is sent after they came.
//
// The technique is the lease of "Scaling Memcache at Facebook" (NSDI 2013) with the lease kept in the entry.
//
// # Two versions of T
//
// While two versions of a program run, both read what either wrote. Fields that were added to a JSON object are zero in
// values that the old version loaded. If that will not do, or the new version cannot read the old values (each would then
// replace the other's, at a load each), give the new version other keys, such as "user:v2:42", and let writes delete both.
//
// # What is exempt
//
//   - A failover of Redis that loses deletes, until they are sent again (the invalidator daemon does that).
//   - Other programs that write under the same keys. What is not an entry is never returned but replaced; an entry that
//     is copied onto a key (RESTORE, COPY, RENAME) brings back what was deleted.
//   - Loaders that read a replica, or inside a transaction that began before the read did.
//   - A Redis client that reads from replicas or from its own memory. [New] refuses those that it can recognize. It
//     cannot recognize redis.FailoverOptions.ReplicaOnly; do not use it.
//
// Redis 7 or newer, or Valkey, is required. The entry format and the protocol are in docs/protocol.md.
package cacheaside
