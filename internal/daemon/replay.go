package daemon

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// replay makes sources begin again at an older position.
func (a *admin) replay(w http.ResponseWriter, r *http.Request) {
	var request ReplayRequest
	if refused := readBody(w, r, &request); refused != nil {
		writeRefusal(w, refused)
		return
	}
	jobs, err := a.replayJobs(request)
	if err != nil {
		writeRefusal(w, a.redacted(err))
		return
	}
	a.stream(w, r, jobs)
}

func (a *admin) replayJobs(request ReplayRequest) ([]job, error) {
	members, err := a.named(request.Source)
	if err != nil {
		return nil, err
	}
	var back time.Duration
	switch {
	case (request.Since == "") == (request.From == ""):
		return nil, refuse(http.StatusBadRequest, `say where the replay begins: since, such as "10m", or from, a position`)
	case request.From != "" && len(members) > 1:
		return nil, refuse(http.StatusBadRequest, "a position is of one source: name it")
	case request.Since != "":
		if back, err = time.ParseDuration(request.Since); err != nil || back <= 0 {
			return nil, refuse(http.StatusBadRequest, fmt.Sprintf(`since: %q is not a positive duration such as "10m"`, request.Since))
		}
	}
	jobs := make([]job, len(members))
	for i, m := range members {
		// A replay of one that does not lead is refused before any begins.
		if _, err := m.leading(); err != nil {
			return nil, err
		}
		jobs[i] = job{m.source.Name, func(ctx context.Context, say func(Progress)) error {
			return replaySource(ctx, m, back, request.From, say)
		}}
	}
	return jobs, nil
}

// replaySource makes one source begin again, and follows it until everything
// that was committed before the call is deleted.
func replaySource(ctx context.Context, m *member, back time.Duration, from string, say func(Progress)) error {
	running, err := m.leading()
	if err != nil {
		return err
	}
	called := time.Now()
	f := &replayProgress{
		news: make(chan struct{}, 1), after: running.attempt,
		end: latest(called, m.watch.snapshot().Committed), line: Progress{Event: ProgressGoesOn},
	}
	if back > 0 {
		f.begin = called.Add(-back)
	}
	defer m.feed.listen(f)()
	within, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	var position string
	err = running.cache.Rewind(within, func(stored []string) (_ string, err error) {
		if from == "" {
			position, err = running.reader.Rewind(within, back, stored)
		} else {
			position, err = running.reader.CompletePosition(within, from, stored)
		}
		return position, err
	})
	if err != nil {
		return timely(within, m.watch.blamed(err))
	}
	say(Progress{Event: ProgressBegun, From: position})
	return follow(ctx, m.ended, f.news, func() Progress {
		line := f.now()
		if line.Event == ProgressDone && slices.ContainsFunc(m.watch.snapshot().Purges, func(p Purge) bool { return !p.ByHand }) {
			line.Event, line.Done = ProgressGoesOn, 0.99 // what it purges is a part of it
		}
		return line
	}, say)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// replayProgress is how far a replay is.
type replayProgress struct {
	news  chan struct{} // has room for one
	after int           // the attempt that was told to begin again
	begin time.Time     // where it begins; zero: the first commit tells
	end   time.Time     // it is over with the first commit after it

	mu   sync.Mutex
	line Progress
}

// hear implements listener. What the attempt before still says is no progress
// of the replay.
func (f *replayProgress) hear(attempt int, e invalidation.Event) {
	if attempt <= f.after {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e.Kind { //nolint:exhaustive // the rest is no progress
	case invalidation.Deleted:
		f.line.Deleted += e.Count
	case invalidation.Waiting:
		if e.Part == invalidation.PartLease {
			return // it goes on without
		}
		f.line.Event, f.line.Error = ProgressWaiting, e.Part+": "+oneLine(e.Err)
	case invalidation.Standby:
		f.line.Event, f.line.Leader = ProgressFailed, e.Text
		f.line.Error = e.Text + " leads now, and goes on with the replay"
	case invalidation.Advanced:
		f.advanced(e)
	case invalidation.PurgeDone: // maybe the last thing that was owed
		if !e.ByHand {
			f.line.Purged += e.Count
		}
	default:
		return
	}
	tell(f.news)
}

func (f *replayProgress) advanced(e invalidation.Event) {
	if f.line.Event == ProgressDone {
		return
	}
	f.line.Event, f.line.Error = ProgressGoesOn, ""
	if !e.At.IsZero() {
		f.line.Committed = e.At
		if f.begin.IsZero() {
			f.begin = e.At
		}
		if whole := f.end.Sub(f.begin); whole > 0 {
			f.line.Done = min(max(float64(e.At.Sub(f.begin))/float64(whole), f.line.Done), 0.99)
		}
	}
	if e.Idle || e.At.After(f.end) {
		f.line.Event, f.line.Done = ProgressDone, 1
	}
}

func (f *replayProgress) now() Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.line
}

// tell wakes whoever waits for news.
func tell(news chan<- struct{}) {
	select {
	case news <- struct{}{}:
	default: // it is awake
	}
}
