package daemon

import (
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// partSupervisor is the part whose failure ended a source.
const partSupervisor = "supervisor"

const (
	// reasonEvery is how often another reason for the same wait is logged.
	reasonEvery = 30 * time.Second
	// progressEvery is how often a running purge is logged.
	progressEvery = 10 * time.Second
	// incompleteEvery is how often a table whose keys are not known is
	// logged: every row of it may be such a case.
	incompleteEvery = time.Minute
)

// numbers is what differs between two errors of the same kind: ports,
// attempts, offsets.
var numbers = regexp.MustCompile(`\d+`)

// journal writes the events of one source to the log: one line for each change,
// however often it is reported. It is an Observer.
type journal struct {
	log *slog.Logger

	mu      sync.Mutex
	waiting map[string]string    // part -> the kind of error that was logged
	worked  map[string]bool      // parts whose working was logged
	logged  map[string]time.Time // what repeats -> when it was last logged
}

func newJournal(log *slog.Logger, source string) *journal {
	return &journal{
		log:     log.With(slog.String("source", source)),
		waiting: map[string]string{}, worked: map[string]bool{}, logged: map[string]time.Time{},
	}
}

// Observe implements invalidation.Observer.
func (j *journal) Observe(e invalidation.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	part := slog.String("part", e.Part)
	switch e.Kind {
	case invalidation.Waiting:
		if j.isNews(e.Part, e.Err) {
			j.log.Warn("waiting", part, slog.String("state", string(Waiting)), j.error(e.Err))
		}
	case invalidation.Working:
		j.works(e.Part, e.Text)
	case invalidation.Advanced:
		j.works(invalidation.PartSource, "")
	case invalidation.Deleted:
		j.log.Debug("deleted", part, slog.Int("keys", e.Count), slog.Duration("took", e.Took))
	case invalidation.Lost:
		j.log.Warn("no usable position", part, slog.String("reason", e.Text))
	case invalidation.PurgeStarted, invalidation.PurgeProgress, invalidation.PurgeDone:
		j.purge(e)
	case invalidation.Incomplete:
		if j.isDue("incomplete "+e.Text+errorText(e.Err), incompleteEvery) {
			j.log.Warn("keys not known: purging by pattern", part, slog.String("table", e.Text), j.error(e.Err))
		}
	case invalidation.Pruned:
		j.log.Debug("outbox pruned", part, slog.Int("rows", e.Count))
	case invalidation.Noted:
		j.note(part, e)
	}
}

func (j *journal) note(part slog.Attr, e invalidation.Event) {
	log := j.log.With(part)
	if e.Err != nil {
		log = log.With(j.error(e.Err))
	}
	log.Info("note", slog.String("text", e.Text))
}

// stopped logs that the source ended and will be started again.
func (j *journal) stopped(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	clear(j.worked)
	if j.isNews(partSupervisor, err) {
		j.log.Warn("starting again", slog.String("state", string(Waiting)), j.error(err))
	}
}

// isNews reports whether a part that can not work has something new to say: it
// worked before, or it waits for another reason than the one last logged, which
// was a while ago. A server that goes down and comes back gives several.
func (j *journal) isNews(part string, err error) bool {
	kind := numbers.ReplaceAllString(errorText(err), "#")
	before := j.waiting[part]
	if before == kind || before != "" && !j.isDue("waiting "+part, reasonEvery) {
		return false
	}
	j.waiting[part] = kind
	j.logged["waiting "+part] = time.Now()
	return true
}

// isDue reports whether what was last logged so long ago that it is news again.
func (j *journal) isDue(what string, every time.Duration) bool {
	if last, ok := j.logged[what]; ok && time.Since(last) < every {
		return false
	}
	j.logged[what] = time.Now()
	return true
}

// answered says that the cache answered a batch.
func (j *journal) answered() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.works(invalidation.PartCache, "")
}

// works logs that a part works, unless that is no news.
func (j *journal) works(part, text string) {
	healed := j.waiting[part] != "" || part == invalidation.PartSource && j.waiting[invalidation.PartGate] != ""
	if j.worked[part] && !healed {
		return
	}
	j.worked[part] = true
	delete(j.waiting, part)
	delete(j.waiting, partSupervisor)
	if part == invalidation.PartSource {
		delete(j.waiting, invalidation.PartGate)
	}
	log := j.log.With(slog.String("part", part), slog.String("state", string(Running)))
	if text != "" {
		log = log.With(slog.String("text", text))
	}
	log.Info("working")
}

func (j *journal) purge(e invalidation.Event) {
	log := j.log.With(slog.String("part", e.Part), slog.String("pattern", e.Text))
	switch e.Kind { //nolint:exhaustive // the caller has chosen
	case invalidation.PurgeStarted:
		j.logged["purge "+e.Text] = time.Now()
		log.Info("purge begins", slog.Int("keys_in_cache", e.Count))
	case invalidation.PurgeProgress:
		if j.isDue("purge "+e.Text, progressEvery) {
			log.Info("purge goes on", slog.Int("deleted", e.Count))
		}
	case invalidation.PurgeDone:
		delete(j.logged, "purge "+e.Text)
		log.Info("purge done", slog.Int("deleted", e.Count))
	}
}

func (j *journal) error(err error) slog.Attr {
	return slog.String("error", strings.ReplaceAll(errorText(err), "\n", "; "))
}
