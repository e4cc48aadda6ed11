package demo

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/redis/go-redis/v9"
)

// fate is what becomes of a write's own delete.
type fate int

const (
	arrives fate = iota
	fails        // the delete does not reach Redis
	crashes      // the writer is gone before it deletes
)

// crashShare is how many of the lost deletes are lost to a crash.
const crashShare = 0.1

func drawFate(lose float64) fate {
	switch draw := rand.Float64(); { //nolint:gosec // a die, not a secret
	case draw >= lose:
		return arrives
	case draw < lose*crashShare:
		return crashes
	}
	return fails
}

type cutOffKey struct{}

// cutOff returns a context whose pipelines do not reach Redis. It also holds
// for retries in the background, which inherit the context.
func cutOff(ctx context.Context) context.Context {
	return context.WithValue(ctx, cutOffKey{}, true)
}

var errCutOff = errors.New("demo: the delete does not reach Redis")

// faultHook makes the application's client fail where the context says so.
type faultHook struct{}

// DialHook implements redis.Hook.
func (faultHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (faultHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook; cacheaside deletes in pipelines.
func (faultHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if ctx.Value(cutOffKey{}) == nil {
			return next(ctx, cmds)
		}
		for _, cmd := range cmds {
			cmd.SetErr(errCutOff)
		}
		return errCutOff
	}
}
