// Command invalidator deletes cache entries when the database commits.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// The second signal meets the default again and ends the process at once.
	context.AfterFunc(ctx, stop)
	redis.SetLogger(&logging.VoidLogger{}) // what matters is in the errors; run has a log
	code := run(ctx, os.Args[1:], streams{out: os.Stdout, err: os.Stderr}, os.LookupEnv)
	stop()
	os.Exit(code)
}
