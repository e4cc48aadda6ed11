// Package integration tests the parts against real servers, one file per subject. See package servers for what they run on.
package integration

import (
	"os"
	"testing"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

func TestMain(m *testing.M) {
	os.Exit(servers.Main(m))
}
