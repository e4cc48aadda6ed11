package daemon

import (
	"context"
	"fmt"
)

// follow says how far something is, a few times in a second at the most, until
// it is over.
func follow(ctx context.Context, m *member, news <-chan struct{}, now func() Progress, say func(Progress)) error {
	var last Progress
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.ended:
			return fmt.Errorf("source %s was stopped before it was done", m.source.Name)
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
