package daemon

import (
	"context"
	"errors"
)

// errEnded is why nothing comes of what was asked of a source.
var errEnded = errors.New("the source was stopped before it was done")

// follow says how far something is, a few times in a second at the most, until
// it is over or ended is closed.
func follow(ctx context.Context, ended, news <-chan struct{}, now func() Progress, say func(Progress)) error {
	var last Progress
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return errEnded
		case <-news:
		}
		line := now()
		switch {
		case line.Event == ProgressFailed:
			return &refusal{Text: line.Error, Leader: line.Leader}
		case line.Event == ProgressDone, line.Event == ProgressPartly:
			say(line)
			return nil
		case line == last:
			continue
		}
		say(line)
		last = line
		if err := sleep(ctx, sayEvery); err != nil {
			return err
		}
	}
}
