package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// purge deletes by pattern, through the sources that lead.
func (a *admin) purge(w http.ResponseWriter, r *http.Request) {
	var request PurgeRequest
	if refused := readBody(w, r, &request); refused != nil {
		writeRefusal(w, refused)
		return
	}
	jobs, err := a.purgeJobs(request)
	if err != nil {
		writeRefusal(w, a.redacted(err))
		return
	}
	a.stream(w, r, jobs)
}

func (a *admin) purgeJobs(request PurgeRequest) ([]job, error) {
	members, err := a.named(request.Source)
	if err != nil {
		return nil, err
	}
	if request.All == (len(request.Patterns) > 0) {
		return nil, refuse(http.StatusBadRequest, `say what to purge: patterns, such as "user:*", or all, for those of the rules`)
	}
	if !request.All {
		m, err := a.purges(members, request.Patterns)
		if err != nil {
			return nil, err
		}
		return []job{purgeJob(m, request.Patterns)}, nil
	}
	var jobs []job
	for _, m := range members {
		if _, err := m.leading(); err != nil {
			return nil, err
		}
		patterns, err := m.source.patterns()
		if err != nil {
			return nil, err
		}
		if len(patterns) > 0 {
			jobs = append(jobs, purgeJob(m, patterns))
		}
	}
	if len(jobs) == 0 {
		return nil, refuse(http.StatusBadRequest, "no source has a pattern: name what to purge")
	}
	return jobs, nil
}

// purges checks the patterns and returns the first member that leads. All
// members delete from the same cache.
func (a *admin) purges(members []*member, patterns []string) (*member, error) {
	var failed error
	for _, m := range members {
		if err := checkPatterns(m.spec.namespace, patterns); err != nil {
			return nil, err
		}
		_, err := m.leading()
		if err == nil {
			return m, nil
		}
		if failed == nil {
			failed = err
		}
	}
	return nil, failed
}

// checkPatterns refuses what would match every key, or is meant for the
// daemon's own, which no purge deletes.
func checkPatterns(namespace string, patterns []string) error {
	for _, pattern := range patterns {
		if err := invalidation.CheckPattern(pattern); err != nil {
			return refuse(http.StatusBadRequest, fmt.Sprintf("pattern %q %v", pattern, err))
		}
		if redissink.IsOwnKey(namespace, globPrefix(pattern)) {
			return refuse(http.StatusBadRequest, fmt.Sprintf("pattern %q names the daemon's own keys: for the position see invalidator position set", pattern))
		}
	}
	return nil
}

func purgeJob(m *member, patterns []string) job {
	return job{m.source.Name, func(ctx context.Context, say func(Progress)) error {
		return purgeSource(ctx, m, patterns, say)
	}}
}

// purgeSource has patterns purged and follows that until the last one is done.
// From when the cache has taken them they are purged also where nobody follows.
func purgeSource(ctx context.Context, m *member, patterns []string, say func(Progress)) error {
	f := newPurgeProgress(patterns)
	m.feed.owe(f) // before it is asked for: where the Sink begins anew meanwhile, it is asked for again
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Beside follow, which says meanwhile what the cache waits for.
	asking.Go(func() {
		if err := askPurge(ctx, m, patterns); err != nil {
			m.feed.refused(f)
			f.fail(Progress{Error: err.Error(), Leader: refusalOf(err).Leader})
		}
	})
	return follow(ctx, nil, f.news, f.now, say)
}

// askPurge asks the leader. That the Sink has to begin anew first is no error.
func askPurge(ctx context.Context, m *member, patterns []string) error {
	running, err := m.leading()
	if err != nil {
		return err
	}
	err = running.cache.Purge(ctx, patterns...)
	if errors.Is(err, invalidation.ErrResume) {
		return nil
	}
	return err
}

// purgeProgress is what an operator wants purged, one pattern after the other,
// and how far that is.
type purgeProgress struct {
	news chan struct{} // has room for one
	all  int           // how many patterns there are

	mu      sync.Mutex
	left    []string // patterns that are not done
	begun   string   // the one whose purge has begun since it was asked for
	deleted int      // of the patterns that are done
	line    Progress
}

func newPurgeProgress(patterns []string) *purgeProgress {
	left := slices.Compact(slices.Sorted(slices.Values(patterns)))
	return &purgeProgress{news: make(chan struct{}, 1), all: len(left), left: left}
}

// fail ends it for the reason in Error.
func (f *purgeProgress) fail(why Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.line.Event, f.line.Error, f.line.Leader = ProgressFailed, why.Error, why.Leader
	tell(f.news)
}

// again returns what has to be asked for again. What has begun before may have
// passed what is to be deleted.
func (f *purgeProgress) again() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun, f.deleted = "", f.line.Deleted
	return slices.Clone(f.left)
}

// isOver reports whether all is done.
func (f *purgeProgress) isOver() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.left) == 0
}

// hear implements listener.
func (f *purgeProgress) hear(_ int, e invalidation.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e.Kind { //nolint:exhaustive // the rest is no progress
	case invalidation.Waiting:
		if boundedPart(e.Part) != invalidation.PartCache {
			return // no purge needs the database, nor the lease
		}
		f.line.Event, f.line.Error = ProgressWaiting, e.Part+": "+oneLine(e.Err)
	case invalidation.PurgeStarted, invalidation.PurgeProgress, invalidation.PurgeDone:
		if !slices.Contains(f.left, e.Text) || e.Kind != invalidation.PurgeStarted && f.begun != e.Text {
			return // somebody else's, or one that began too early
		}
		f.moved(e)
	default:
		return
	}
	tell(f.news)
}

func (f *purgeProgress) moved(e invalidation.Event) {
	f.line.Event, f.line.Error, f.line.Pattern = ProgressGoesOn, "", e.Text
	switch e.Kind { //nolint:exhaustive // the caller has chosen
	case invalidation.PurgeStarted:
		f.begun = e.Text
		f.line.Event = ProgressBegun
		f.line.Cached, f.line.Scanned, f.line.Deleted = e.Count, 0, f.deleted
	case invalidation.PurgeProgress:
		f.line.Scanned, f.line.Deleted = e.Scanned, f.deleted+e.Count
	case invalidation.PurgeDone:
		f.left = slices.DeleteFunc(f.left, func(p string) bool { return p == e.Text })
		f.deleted += e.Count
		f.begun = ""
		f.line.Scanned, f.line.Deleted = f.line.Cached, f.deleted
		if e.Err != nil {
			f.line.Refused = strings.TrimPrefix(f.line.Refused+"; "+e.Text+": "+oneLine(e.Err), "; ")
		}
	}
	f.line.Done = f.share()
	if len(f.left) == 0 {
		f.line.Event, f.line.Done, f.line.Pattern = ProgressDone, 1, ""
		if f.line.Refused != "" {
			f.line.Event = ProgressPartly
		}
	}
}

// share is how much of all patterns is done, 0 to 1.
func (f *purgeProgress) share() float64 {
	done := float64(f.all - len(f.left))
	if f.begun != "" && f.line.Cached > 0 {
		done += min(1, float64(f.line.Scanned)/float64(f.line.Cached))
	}
	return done / float64(f.all)
}

func (f *purgeProgress) now() Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.line
}
