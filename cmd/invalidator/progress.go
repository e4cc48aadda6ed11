package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

// sayEvery is how often a line says how far something is, where no bar can.
const sayEvery = 5 * time.Second

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// progress shows how far a command of the daemon is: as a bar on a terminal, in
// lines where there is none, or as the JSON that the daemon sent.
type progress struct {
	env     *environment
	json    bool
	what    func(daemon.Progress) string // one line about an event
	bar     *progressbar.ProgressBar     // nil: no terminal
	share   map[string]float64           // of each source
	deleted map[string]int               // of each source
	said    time.Time
}

func newProgress(env *environment, asJSON bool, what func(daemon.Progress) string) *progress {
	p := &progress{env: env, json: asJSON, what: what, share: map[string]float64{}, deleted: map[string]int{}}
	if !asJSON && isTerminal(env.err) {
		p.bar = progressbar.NewOptions(1000, progressbar.OptionSetWriter(env.err), progressbar.OptionThrottle(50*time.Millisecond),
			progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
	}
	return p
}

// show shows one line of progress.
func (p *progress) show(line daemon.Progress) {
	if p.json {
		_ = json.NewEncoder(p.env.out).Encode(line)
		return
	}
	p.share[line.Source], p.deleted[line.Source] = line.Done, line.Deleted
	switch line.Event {
	case daemon.ProgressBegun, daemon.ProgressDone, daemon.ProgressPartly:
		p.clear()
		p.say(p.what(line))
	case daemon.ProgressGoesOn, daemon.ProgressWaiting:
		if p.bar == nil && time.Since(p.said) >= sayEvery {
			p.say(p.what(line))
		}
	case daemon.ProgressFailed: // is the command's error
		p.clear()
		return
	}
	if whole := p.whole(); p.bar != nil && whole < 1 {
		text := fmt.Sprintf("%d keys deleted", sum(p.deleted))
		if line.Event == daemon.ProgressWaiting {
			text = p.what(line)
		}
		p.bar.Describe(text)
		_ = p.bar.Set(int(whole * 1000))
	}
}

func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}

func (p *progress) say(text string) {
	p.said = time.Now()
	_, _ = fmt.Fprintln(p.env.out, text)
}

// whole is the share of all sources together.
func (p *progress) whole() float64 {
	return sum(p.share) / float64(max(1, len(p.share)))
}

func sum[N int | float64](of map[string]N) (all N) {
	for _, n := range of {
		all += n
	}
	return all
}
