package servers

import (
	"crypto/rand"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	password    = "integration" // of every account; the servers listen on loopback and live as long as the test
	dropTimeout = 10 * time.Second
)

// Prefix returns a key prefix of the test's own for a shared Redis, like "keys_are_deleted_k3v9q2:".
func Prefix(tb testing.TB) string {
	tb.Helper()
	return uniqueName(tb) + ":"
}

// uniqueName is a name that is valid unquoted as a database in MySQL and Postgres and tells which test it belongs to.
func uniqueName(tb testing.TB) string {
	tb.Helper()
	const limit = 40 // of 63 bytes that Postgres keeps of a name
	name := regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(tb.Name()), "_")
	name = name[:min(len(name), limit)]
	return name + "_" + strings.ToLower(rand.Text()[:8])
}
