// Package redissink is the Sink for Redis: it deletes keys and keeps the
// position in the cache that it describes. The cache is one server, what
// Sentinels watch, or a cluster, of Redis 7 or later or Valkey.
//
// Every pipeline that deletes ends, on the same connection, with a
// compare-and-set of the position's value to a new nonce. A cache that went
// back in time, because a replica was promoted or a dump was restored, then
// holds another value than the one last written, and Apply says so with
// [invalidation.ErrResume]. The position part of the value advances one
// pipeline later than the deletes it covers, after every reply was read:
// a pipeline goes on after a command that failed.
//
// In a cluster every master has a position of its own, in one of its slots. One
// that can not be reached for a while is left behind, so that the others go on,
// and is caught up from its own position when it is back.
//
// Several processes may have a Sink for the same namespace and source. One
// leads, by a lease beside the position; in the others Positions waits. Two that
// both believe to lead do the same work twice and find out by the nonce.
//
// The keys in Redis are NAMESPACE:position:SOURCE, NAMESPACE:leader:SOURCE and
// NAMESPACE:parked:SOURCE, in a cluster with a hash tag behind the first and
// the last.
package redissink
