// Package demo runs a small application, its database, its cache and the relay
// in one process, lets deletes get lost, and counts what is stale.
//
// The database is SQLite in a temporary file, the cache an embedded Redis on a
// port of the loopback interface, and everything between them is what a real
// program uses: pkg/cacheaside in the application, pkg/outbox and redissink as
// the daemon.
package demo
