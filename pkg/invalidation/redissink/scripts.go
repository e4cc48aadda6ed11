package redissink

import (
	_ "embed"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

//go:embed position.lua
var positionLua string

//go:embed parked.lua
var parkedLua string

//go:embed lease.lua
var leaseLua string

// scripts are sent with their flags, or without where the server, such as
// miniredis, knows none.
type scripts struct {
	plain                   atomic.Bool
	position, parked, lease script
}

type script struct{ flagged, bare *redis.Script }

func newScripts() *scripts {
	return &scripts{position: newScript(positionLua), parked: newScript(parkedLua), lease: newScript(leaseLua)}
}

func newScript(text string) script {
	_, bare, _ := strings.Cut(text, "\n")
	return script{redis.NewScript(text), redis.NewScript(bare)}
}

func (s *scripts) of(which script) *redis.Script {
	if s.plain.Load() {
		return which.bare
	}
	return which.flagged
}

// withoutFlags takes the flags off where the server said with err that it
// knows none.
func (s *scripts) withoutFlags(err error) bool {
	if !strings.Contains(err.Error(), "compiling script") || !strings.Contains(err.Error(), "near '#'") {
		return false
	}
	return !s.plain.Swap(true)
}
