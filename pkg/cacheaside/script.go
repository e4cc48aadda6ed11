package cacheaside

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// onceCmd is a command that the Redis client may put on the wire only once: it is not sent again when its reply is
// lost. (A server that answers with a redirection or an error has not run it, and the client may send it again.)
type onceCmd struct{ *redis.Cmd }

// NoRetry is asked by the Redis client before it repeats a command.
func (onceCmd) NoRetry() bool { return true }

// Clone keeps a copy from being an ordinary, repeatable command.
func (c onceCmd) Clone() redis.Cmder {
	cmd, ok := c.Cmd.Clone().(*redis.Cmd)
	if !ok {
		return c
	}
	return onceCmd{cmd}
}

// script is a Lua script that returns 1 if it did something.
type script struct{ source, sha string }

func newScript(source string) script {
	return script{source: source, sha: redis.NewScript(source).Hash()}
}

// run runs s. Scripts that grant a lease must run once: see onceCmd.
func (s script) run(ctx context.Context, rdb redis.UniversalClient, once bool, key string, args ...any) (bool, error) {
	done, err := s.send(ctx, rdb, once, "evalsha", s.sha, key, args)
	if errors.Is(err, redis.ErrNoScript) || redis.HasErrorPrefix(err, "NOSCRIPT") {
		// The server has not run it, so sending it again with the same lease is still the first time.
		return s.send(ctx, rdb, once, "eval", s.source, key, args)
	}
	return done, err
}

func (s script) send(ctx context.Context, rdb redis.UniversalClient, once bool, command, body, key string, args []any) (bool, error) {
	cmd := redis.NewCmd(ctx, append([]any{command, body, 1, key}, args...)...)
	var err error
	if once {
		err = rdb.Process(ctx, onceCmd{cmd})
	} else {
		err = rdb.Process(ctx, cmd)
	}
	if err != nil {
		return false, err
	}
	n, err := cmd.Int()
	if err != nil {
		return false, fmt.Errorf("unexpected reply of the script: %w", err)
	}
	return n == 1, nil
}
