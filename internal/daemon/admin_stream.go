package daemon

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// sayEvery is how often a command that waits says how far it is.
const sayEvery = 200 * time.Millisecond

// job does one thing that an operator asked for and says how far it is. An
// error is why it was not done.
type job struct {
	source string
	do     func(ctx context.Context, say func(Progress)) error
}

// stream answers with what the jobs say, which run side by side, until the last
// has ended, the client is gone or the daemon stops. What a source has begun
// goes on without a client.
func (a *admin) stream(w http.ResponseWriter, r *http.Request, jobs []job) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	lines := make(chan Progress)
	var running sync.WaitGroup
	for _, j := range jobs {
		running.Go(func() { a.work(ctx, j, lines) })
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		running.Wait()
	}()
	out := newStream(w)
	stopping := a.stopping
	for {
		select {
		case line := <-lines:
			if err := out.send(line); err != nil {
				cancel(err)
			}
		case <-stopping:
			stopping = nil
			cancel(errStopping)
		case <-ended:
			return
		}
	}
}

// work does a job and turns its error into the last line.
func (a *admin) work(ctx context.Context, j job, lines chan<- Progress) {
	say := func(line Progress) {
		line.Source = j.source
		lines <- line
	}
	err := j.do(ctx, say)
	if err == nil {
		return
	}
	if errors.Is(context.Cause(ctx), errStopping) {
		err = errStopping
	}
	refused := a.redacted(err)
	say(Progress{Event: ProgressFailed, Error: refused.Text, Leader: refused.Leader})
}

// redacted returns an error as an answer without secrets.
func (a *admin) redacted(err error) *refusal {
	r := *refusalOf(err)
	if a.hide != nil {
		r.Text = a.hide(&r).Error()
	}
	return &r
}
