// Package integration tests the parts against real servers, one file per subject. See package servers for what they run on.
package integration

import (
	"context"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

func TestMain(m *testing.M) {
	redis.SetLogger(noRedisLog{}) // servers that are away are what the tests are about
	os.Exit(servers.Main(m))
}

type noRedisLog struct{}

func (noRedisLog) Printf(context.Context, string, ...any) {}
