package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

type runCommand struct {
	configFlag

	DryRun    bool   `help:"Start at now and print rows and keys; delete nothing, contact no Redis."`
	LogFormat string `default:"text" enum:"text,json" help:"text or json."`
	LogLevel  string `default:"info" enum:"debug,info,warn" help:"debug, info or warn."`
}

// Run implements the command.
func (c runCommand) Run(env *environment) error {
	cfg, err := c.load(env, false)
	if err != nil {
		return err
	}
	logger, err := c.logger(env.err)
	if err != nil {
		return err
	}
	redis.SetLogger(redisLog{logger})
	opts := daemon.Options{Logger: logger, Version: moduleVersion(), Revision: revision()}
	if c.DryRun {
		opts.DryRun = env.out
		return daemon.Run(env, cfg, opts) // a hangup ends it
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	opts.Load, opts.Hangup = func() (daemon.Config, error) { return c.load(env, false) }, hangup
	return daemon.Run(env, cfg, opts)
}

func (c runCommand) logger(out io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, usageError{err}
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(out, opts)), nil
	}
	return slog.New(slog.NewTextHandler(out, opts)), nil
}

// redisLog takes what the Redis client says about itself to the log. What
// matters is in the daemon's own events too.
type redisLog struct{ log *slog.Logger }

// Printf implements the client's interface.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.DebugContext(ctx, "redis client", slog.String("text", fmt.Sprintf(format, args...)))
}
