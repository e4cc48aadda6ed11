package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

type reloadCommand struct {
	commandFlags
	jsonFlag
}

// Run implements the command.
func (c reloadCommand) Run(env *environment) error {
	client, err := c.client(env)
	if err != nil {
		return err
	}
	answer, err := client.Post(env, "/reload", struct{}{})
	if err != nil {
		return err
	}
	if c.JSON {
		_, err := env.out.Write(answer)
		return err
	}
	var done daemon.Reloaded
	if err := json.Unmarshal(answer, &done); err != nil {
		return fmt.Errorf("the daemon's answer is not that of a reload: %w", err)
	}
	for _, group := range []struct {
		what  string
		names []string
	}{{"started", done.Started}, {"restarted", done.Restarted}, {"stopped", done.Stopped}, {"unchanged", done.Unchanged}} {
		if len(group.names) > 0 {
			_, _ = fmt.Fprintf(env.out, "%s: %s\n", group.what, strings.Join(group.names, ", "))
		}
	}
	return nil
}
