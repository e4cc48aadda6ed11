package daemon

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// parked lists what Redis refuses to delete. Keys can be personal data: whoever
// wants to see them has to pass the guard, unless show_keys is set.
func (a *admin) parked(w http.ResponseWriter, r *http.Request, trusted bool) {
	show, _ := strconv.ParseBool(r.URL.Query().Get("show_keys"))
	if show {
		if refused := a.guard.check(trusted, r); refused != nil {
			writeRefusal(w, refused)
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), commandWithin)
	defer cancel()
	page, err := a.parkedOf(ctx, r.URL.Query().Get("source"), show)
	if err != nil {
		writeRefusal(w, a.redacted(timely(ctx, err)))
		return
	}
	writeJSON(w, http.StatusOK, page)
}

func (a *admin) parkedOf(ctx context.Context, name string, show bool) (ParkedPage, error) {
	page := ParkedPage{Parked: []ParkedKey{}}
	members, err := a.named(name)
	if err != nil {
		return page, err
	}
	for _, m := range members {
		running := m.running.Load()
		if running == nil || running.cache == nil {
			return page, refuse(http.StatusServiceUnavailable, "source "+m.source.Name+" is being started: try again in a moment")
		}
		keys, err := running.cache.Parked(ctx)
		if err != nil {
			return page, fmt.Errorf("source %s: %w", m.source.Name, err)
		}
		page.Parked = append(page.Parked, hides(keys, m.source.Name, show || m.spec.showKeys)...)
	}
	return page, nil
}

// parkedCommand does something with parked keys of one cache: here are those
// that are meant. It adds to the page what came of it.
type parkedCommand func(ctx context.Context, held cache, here []string, page *ParkedPage) error

// retryParked deletes parked keys again.
func retryParked(ctx context.Context, held cache, here []string, page *ParkedPage) error {
	deleted, err := held.Unpark(ctx, here...)
	page.Deleted += deleted
	page.Left += len(here) - deleted
	return err
}

// dropParked forgets parked keys.
func dropParked(ctx context.Context, held cache, here []string, page *ParkedPage) error {
	dropped, err := held.Forget(ctx, here...)
	page.Dropped += dropped
	return err
}

// commandParked returns what serves a command, which answers with the keys that
// stay parked.
func (a *admin) commandParked(do parkedCommand) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request ParkedRequest
		if refused := readBody(w, r, &request); refused != nil {
			writeRefusal(w, refused)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), commandWithin)
		defer cancel()
		page, err := a.doParked(ctx, request, do)
		if err != nil {
			writeRefusal(w, a.redacted(timely(ctx, err)))
			return
		}
		writeJSON(w, http.StatusOK, page)
	}
}

func (a *admin) doParked(ctx context.Context, request ParkedRequest, do parkedCommand) (ParkedPage, error) {
	page := ParkedPage{Parked: []ParkedKey{}}
	members, err := a.named(request.Source)
	if err != nil {
		return page, err
	}
	missing := slices.Clone(request.Keys)
	for _, m := range members {
		here, err := m.doParked(ctx, request.Keys, do, &page)
		if err != nil {
			return page, err
		}
		missing = slices.DeleteFunc(missing, func(key string) bool { return slices.Contains(here, key) })
	}
	if len(missing) > 0 {
		return page, refuse(http.StatusNotFound, "not parked: "+strings.Join(missing, " "))
	}
	return page, nil
}

// doParked does something with what of the keys, or of all, is parked for one
// source, and returns which those are.
func (m *member) doParked(ctx context.Context, keys []string, do parkedCommand, page *ParkedPage) (here []string, err error) {
	running, err := m.leading()
	if err != nil {
		return nil, err
	}
	parked, err := running.cache.Parked(ctx)
	for _, p := range parked {
		if len(keys) == 0 || slices.Contains(keys, p.Key) {
			here = append(here, p.Key)
		}
	}
	if err == nil && len(here) > 0 {
		if err = do(ctx, running.cache, here, page); err == nil {
			parked, err = running.cache.Parked(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", m.source.Name, err)
	}
	page.Parked = append(page.Parked, hides(parked, m.source.Name, m.spec.showKeys)...)
	return here, nil
}
