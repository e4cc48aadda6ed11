package cacheaside

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// onceCmd is a command that the Redis client may put on the wire only once: it is not sent again when its reply is
// lost, neither alone nor with the pipeline that it is in. (A server that answers with a redirection or an error has not
// run it, and the client may send it again.)
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

// op is a call of s. Scripts that grant a lease must run once: see onceCmd.
func (s script) op(ctx context.Context, at step, key string, once bool, args ...any) *op {
	return &op{
		step: at, key: key, once: once,
		cmd:  redis.NewCmd(ctx, append([]any{"evalsha", s.sha, 1, key}, args...)...),
		eval: append([]any{"eval", s.source, 1, key}, args...),
	}
}
