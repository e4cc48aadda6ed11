package redissink

import (
	"cmp"
	"errors"
	"net"
	"sync/atomic"
)

const (
	// keysPerPipeline bounds how long Redis works on one pipeline, and how
	// much is deleted again after a connection broke.
	keysPerPipeline = 4096
	// fewestKeys is the size under which a pipeline is not to blame for a
	// timeout.
	fewestKeys = 16
)

// size is how many keys a pipeline has at the most: on a slow link half as many
// after each that was not answered in time, and a few more after each that was.
type size struct{ keys atomic.Int64 }

func (s *size) get() int { return int(cmp.Or(s.keys.Load(), keysPerPipeline)) }

// learn hears how a pipeline of some keys ended.
func (s *size) learn(keys int, err error) {
	switch now := s.get(); {
	case err == nil && keys == now:
		s.keys.Store(int64(min(now+now/16+1, keysPerPipeline)))
	case keys > fewestKeys && isTimeout(err):
		s.keys.Store(int64(max(keys/2, fewestKeys)))
	}
}

func isTimeout(err error) bool {
	late, ok := errors.AsType[net.Error](err)
	return ok && late.Timeout()
}
