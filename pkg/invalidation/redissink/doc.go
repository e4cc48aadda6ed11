// Package redissink is the Sink for Redis: it deletes keys and keeps the
// position in the cache that it describes.
//
// Every pipeline that deletes ends, on the same connection, with a
// compare-and-set of the position's value to a new nonce. A cache that went
// back in time, because a replica was promoted or a dump was restored, then
// holds another value than the one last written, and Apply says so with
// [invalidation.ErrResume]. The position part of the value advances one
// pipeline later than the deletes it covers, after every reply was read:
// a pipeline goes on after a command that failed.
package redissink
