package daemon

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// partSupervisor is the part whose failure ended a source.
const partSupervisor = "supervisor"

const (
	// progressEvery is how often a running purge is logged.
	progressEvery = 10 * time.Second
	// repeatEvery is how often the same warning is logged that every row or
	// every key may be a case of.
	repeatEvery = time.Minute
)

// journal writes the events of one source to the log: one line for each change,
// however often it is reported. It is an Observer.
type journal struct {
	log *slog.Logger

	mu     sync.Mutex
	waits  waits
	worked map[string]bool // parts whose working was logged
	leader *string         // the last one that was logged; nil: none, or this process leads
	recent recent
}

func newJournal(log *slog.Logger, source string) *journal {
	return &journal{
		log:   log.With(slog.String("source", source)),
		waits: waits{}, worked: map[string]bool{}, recent: recent{},
	}
}

// Observe implements invalidation.Observer.
func (j *journal) Observe(e invalidation.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	part := slog.String("part", e.Part)
	switch e.Kind { //nolint:exhaustive // the rest is no change
	case invalidation.Waiting:
		if j.waits.isNews(e.Part, e.Err) {
			j.log.Warn("waiting", part, slog.String("state", string(Waiting)), j.error(e.Err))
		}
	case invalidation.Working:
		j.works(e.Part, e.Text)
	case invalidation.Advanced:
		j.works(invalidation.PartSource, "")
	case invalidation.Deleted:
		j.log.Debug("deleted", part, slog.String("group", e.Text), slog.Int("keys", e.Count), slog.Int("found", e.Found), slog.Duration("took", e.Took))
	case invalidation.Standby, invalidation.Leading:
		j.leadership(part, e)
	case invalidation.PurgeStarted, invalidation.PurgeProgress, invalidation.PurgeDone:
		j.purge(e)
	case invalidation.Pruned:
		j.log.Debug("outbox pruned", part, slog.Int("rows", e.Count))
	default:
		j.warn(part, e)
	}
}

// warn logs what an operator should know. What is told again within a minute,
// but for its numbers, is not logged again.
func (j *journal) warn(part slog.Attr, e invalidation.Event) {
	switch e.Kind { //nolint:exhaustive // the rest is no change
	case invalidation.Lost:
		if j.isNews("lost", e) {
			j.log.Warn("no usable position", part, slog.String("reason", e.Text))
		}
	case invalidation.Replaying:
		if j.isNews("replaying", e) {
			j.log.Warn("deleting again from the oldest position that the cache remembers", part, slog.String("reason", oneLine(e.Err)))
		}
	case invalidation.Incomplete:
		if j.isNews("incomplete", e) {
			j.log.Warn("keys not known: purging by pattern", part, slog.String("table", e.Text), j.error(e.Err))
		}
	case invalidation.Parked:
		// One with no error tells that fewer are parked than before.
		if e.Err != nil && j.isNews("parked", e) {
			j.log.Warn("redis refuses to delete a key, so it is parked: see invalidator parked", part, slog.Int("parked", e.Count), j.error(e.Err))
		}
	case invalidation.Noted:
		if j.isNews("noted", e) {
			j.note(part, e)
		}
	}
}

// isNews reports whether an event of this kind was not logged for a while.
func (j *journal) isNews(kind string, e invalidation.Event) bool {
	return j.recent.isDue(kindOfError(kind+" "+e.Text, e.Err), repeatEvery)
}

func (j *journal) note(part slog.Attr, e invalidation.Event) {
	log := j.log.With(part)
	if e.Err != nil {
		log = log.With(j.error(e.Err))
	}
	log.Info("note", slog.String("text", e.Text))
}

// leadership logs who leads, when that is somebody else than before.
func (j *journal) leadership(part slog.Attr, e invalidation.Event) {
	j.waits.heal(invalidation.PartLease)
	if e.Kind == invalidation.Leading {
		j.leader = nil
		j.log.Info("leading", part, slog.String("state", string(Leading)))
		return
	}
	if j.leader == nil || *j.leader != e.Text {
		j.leader = &e.Text
		j.log.Info("standing by", part, slog.String("state", string(Standby)), slog.String("leader", e.Text))
	}
}

// stopped logs that the source ended and will be started again.
func (j *journal) stopped(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	clear(j.worked)
	if j.waits.isNews(partSupervisor, err) {
		j.log.Warn("starting again", slog.String("state", string(Waiting)), j.error(err))
	}
}

// endedForGood logs that the source ended and will not be started again.
func (j *journal) endedForGood(err error) {
	j.log.Error("ended for good: correct what the error names, then reload", slog.String("state", string(Ended)), j.error(err))
}

// answered says that the cache answered a batch.
func (j *journal) answered() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.works(invalidation.PartCache, "")
}

// works logs that a part works, unless that is no news.
func (j *journal) works(part, text string) {
	healed := j.waits.heal(part)
	if part == invalidation.PartSource && j.waits.heal(invalidation.PartGate) {
		healed = true
	}
	j.waits.heal(partSupervisor)
	if j.worked[part] && !healed {
		return
	}
	j.worked[part] = true
	log := j.log.With(slog.String("part", part), slog.String("state", string(Running)))
	if text != "" {
		log = log.With(slog.String("text", text))
	}
	log.Info("working")
}

func (j *journal) purge(e invalidation.Event) {
	log := j.log.With(slog.String("part", e.Part), slog.String("pattern", e.Text))
	name := "purge " + e.Text
	switch e.Kind { //nolint:exhaustive // the caller has chosen
	case invalidation.PurgeStarted:
		if j.recent.isDue(name, progressEvery) { // it may have to begin again, and again
			log.Info("purge begins", slog.Int("keys_in_cache", e.Count))
		}
	case invalidation.PurgeProgress:
		if j.recent.isDue(name, progressEvery) {
			log.Info("purge goes on", slog.Int("deleted", e.Count), slog.Int("scanned", e.Scanned))
		}
	case invalidation.PurgeDone:
		delete(j.recent, name)
		if e.Err != nil {
			log.Warn("purge done, but not of every key", slog.Int("deleted", e.Count), slog.String("left", oneLine(e.Err)))
			return
		}
		log.Info("purge done", slog.Int("deleted", e.Count))
	}
}

func (j *journal) error(err error) slog.Attr {
	return slog.String("error", strings.ReplaceAll(errorText(err), "\n", "; "))
}
