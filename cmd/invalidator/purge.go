package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

type purgeCommand struct {
	commandFlags
	jsonFlag

	Source   string   `help:"Whose daemon does it, and with --all whose patterns. Default: any, and all." placeholder:"NAME"`
	All      bool     `help:"Delete all that the rules and purge lists can name."`
	Patterns []string `arg:"" help:"Redis globs, such as 'user:*'; quote them." name:"pattern" optional:""`
}

// Run implements the command.
func (c purgeCommand) Run(env *environment) error {
	if c.All == (len(c.Patterns) > 0) {
		return usageError{errors.New("say what to purge: patterns such as 'user:*', or --all for those of the rules")}
	}
	client, err := c.client(env)
	if err != nil {
		return err
	}
	request := daemon.PurgeRequest{Source: c.Source, Patterns: c.Patterns, All: c.All}
	err = client.Follow(env, "/purge", request, newProgress(env, c.JSON, purged).show)
	if err != nil && strings.Contains(err.Error(), "parked") {
		return fmt.Errorf("%w: see invalidator parked", err)
	}
	return err
}

func purged(line daemon.Progress) string {
	switch line.Event {
	case daemon.ProgressBegun:
		return fmt.Sprintf("%s: purges %s: looks at %d keys", line.Source, line.Pattern, line.Cached)
	case daemon.ProgressWaiting:
		return fmt.Sprintf("%s: waits for %s", line.Source, line.Error)
	case daemon.ProgressDone, daemon.ProgressPartly:
		return fmt.Sprintf("%s: done: %d keys deleted", line.Source, line.Deleted)
	}
	return fmt.Sprintf("%s: %s: %d keys deleted, %d of %d looked at", line.Source, line.Pattern, line.Deleted, min(line.Scanned, line.Cached), line.Cached)
}
