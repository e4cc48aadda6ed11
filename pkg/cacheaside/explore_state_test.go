package cacheaside

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// memory names what a shares with the actors of its process.
func (a *actor) memory() string {
	if a.process < 0 {
		return a.name
	}
	return fmt.Sprint("process ", a.process)
}

// begin notes what an actor that begins now must know of. mu is held.
func (r *exploredRun) begin(a *actor) {
	a.begun, a.floor = true, map[string]exploredRow{}
	for key, row := range r.rows {
		a.floor[key] = *row
		r.remember(a, fmt.Sprintf("%s began after %d deletes, of version %d", key, row.deleted, row.known))
	}
}

// remember adds to what a's process knows. mu is held.
func (r *exploredRun) remember(a *actor, what string) {
	r.history[a.memory()] = append(r.history[a.memory()], what)
}

func (r *exploredRun) note(a *actor, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.free {
		return
	}
	what := fmt.Sprintf(format, args...)
	r.trace = append(r.trace, "    "+what)
	r.remember(a, what)
}

func (r *exploredRun) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what := fmt.Sprintf(format, args...)
	if r.free || !strings.Contains(what, r.w.mutant.breaks) {
		return
	}
	r.trace = append(r.trace, "    WRONG: "+what)
	r.wrong = append(r.wrong, what)
}

// state tells apart what can still happen and what may still be wrong with it.
func (r *exploredRun) state() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, key := range r.w.keys {
		fmt.Fprint(&b, *r.rows[key])
	}
	known := r.remembered()
	b.WriteString(known)
	stored := r.stored()
	for _, name := range r.names {
		if !strings.Contains(known, name+" ") { // nobody can tell this one from another
			stored = strings.ReplaceAll(stored, name+" ", "somebody's ")
		}
	}
	b.WriteString(stored)
	return b.String()
}

// remembered is what those who are not done know. mu is held.
func (r *exploredRun) remembered() string {
	var b strings.Builder
	for _, a := range r.actors {
		if !a.done {
			b.WriteString(a.name + ", ")
			b.WriteString(a.memory())
		}
	}
	for _, who := range slices.Sorted(maps.Keys(r.history)) {
		if slices.ContainsFunc(r.actors, func(a *actor) bool { return r.active(a) && a.memory() == who }) {
			fmt.Fprintf(&b, "%s: %q; ", who, r.history[who])
		}
	}
	return b.String()
}
