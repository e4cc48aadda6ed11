package redissink

import (
	"cmp"
	"slices"
	"sync"
)

// earned is the newest position that every delete behind it was answered for.
// Purges hold later positions up until they are done.
type earned struct {
	mu       sync.Mutex
	position string
	held     []heldPosition // in the order of the log
}

// heldPosition may be remembered once its purges, and those of the ones before
// it, are done.
type heldPosition struct {
	position string
	purges   []*purge
}

func (e *earned) get() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.release()
	return e.position
}

// set forgets what is held.
func (e *earned) set(position string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.position, e.held = position, nil
}

// put adds the position of a batch whose keys were deleted; "" for none.
func (e *earned) put(position string, purges []*purge) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if last := len(e.held) - 1; last >= 0 && (len(purges) == 0 || slices.Equal(purges, e.held[last].purges)) {
		// It waits for what the one before waits for.
		e.held[last].position = cmp.Or(position, e.held[last].position)
		return
	}
	e.held = append(e.held, heldPosition{position, purges})
	e.release()
}

func (e *earned) release() {
	for len(e.held) > 0 {
		for _, p := range e.held[0].purges {
			if !p.done.Load() {
				return
			}
		}
		if e.held[0].position != "" {
			e.position = e.held[0].position
		}
		e.held = e.held[1:]
	}
}
