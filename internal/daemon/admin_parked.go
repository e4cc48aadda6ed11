package daemon

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
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

// retryParked deletes parked keys again, and answers with those that stay.
func (a *admin) retryParked(w http.ResponseWriter, r *http.Request) {
	var request RetryRequest
	if refused := readBody(w, r, &request); refused != nil {
		writeRefusal(w, refused)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), commandWithin)
	defer cancel()
	page, err := a.retryKeys(ctx, request)
	if err != nil {
		writeRefusal(w, a.redacted(timely(ctx, err)))
		return
	}
	writeJSON(w, http.StatusOK, page)
}

func (a *admin) retryKeys(ctx context.Context, request RetryRequest) (ParkedPage, error) {
	page := ParkedPage{Parked: []ParkedKey{}}
	members, err := a.named(request.Source)
	if err != nil {
		return page, err
	}
	missing := slices.Clone(request.Keys)
	for _, m := range members {
		running, err := m.leading()
		if err != nil {
			return page, err
		}
		kept, deleted, err := retryAt(ctx, running.cache, request.Keys, &missing)
		if err != nil {
			return page, fmt.Errorf("source %s: %w", m.source.Name, err)
		}
		page.Deleted += deleted
		page.Parked = append(page.Parked, hides(kept, m.source.Name, m.spec.showKeys)...)
	}
	if len(missing) > 0 {
		return page, refuse(http.StatusNotFound, "not parked, so nothing to retry: "+strings.Join(missing, " "))
	}
	return page, nil
}

// retryAt deletes again what of the keys, or of all, is parked in one cache. It
// takes what it found off missing.
func retryAt(ctx context.Context, held cache, keys []string, missing *[]string) (kept []redissink.Parked, deleted int, err error) {
	before, err := held.Parked(ctx)
	if err != nil {
		return nil, 0, err
	}
	var here []string
	for _, p := range before {
		if len(keys) == 0 || slices.Contains(keys, p.Key) {
			here = append(here, p.Key)
		}
	}
	*missing = slices.DeleteFunc(*missing, func(key string) bool { return slices.Contains(here, key) })
	if len(here) == 0 {
		return before, 0, nil
	}
	if deleted, err = held.Unpark(ctx, here...); err != nil {
		return nil, deleted, err
	}
	kept, err = held.Parked(ctx)
	return kept, deleted, err
}
