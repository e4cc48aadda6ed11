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
	code := servers.Main(m)
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

type noRedisLog struct{}

func (noRedisLog) Printf(context.Context, string, ...any) {}
