package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

type replayCommand struct {
	commandFlags
	sourceFlag
	jsonFlag

	Since time.Duration `help:"How far back to begin, such as 10m." placeholder:"DURATION" xor:"begin"`
	From  string        `help:"The position to begin at, as position show prints it, or a GTID set." placeholder:"POSITION" xor:"begin"`
}

// Run implements the command.
func (c replayCommand) Run(env *environment) error {
	request := daemon.ReplayRequest{Source: c.Source, From: c.From}
	switch {
	case c.Since < 0:
		return usageError{fmt.Errorf("--since: %s is negative: give how far back to begin, such as 10m", c.Since)}
	case c.Since > 0:
		request.Since = c.Since.String()
	case c.From == "":
		return usageError{errors.New("say where the replay begins: --since 10m, or --from POSITION")}
	}
	client, err := c.client(env)
	if err != nil {
		return err
	}
	return client.Follow(env, "/replay", request, newProgress(env, c.JSON, replayed).show)
}

func replayed(line daemon.Progress) string {
	switch line.Event {
	case daemon.ProgressBegun:
		return fmt.Sprintf("%s: replays from %s", line.Source, line.From)
	case daemon.ProgressWaiting:
		return fmt.Sprintf("%s: waits for %s", line.Source, line.Error)
	case daemon.ProgressDone:
		text := fmt.Sprintf("%s: done: %d keys deleted again", line.Source, line.Deleted)
		if line.Purged > 0 {
			text += fmt.Sprintf(", and %d by pattern, because the log does not name the keys of some changes", line.Purged)
		}
		return text
	}
	text := fmt.Sprintf("%s: %d keys deleted again", line.Source, line.Deleted)
	if !line.Committed.IsZero() {
		text += ", at commits of " + line.Committed.Local().Format(time.TimeOnly)
	}
	return text
}
