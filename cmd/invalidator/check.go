package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

type checkCommand struct {
	configFlag
	jsonFlag
}

// errCheckFailed ends the program with code 1 and no further line.
var errCheckFailed = errors.New("")

// Run implements the command.
func (c checkCommand) Run(env *environment) error {
	cfg, err := c.load(env, false)
	if err != nil {
		return err
	}
	found := daemon.Check(env, cfg)
	failed := slices.ContainsFunc(found, func(f daemon.Checked) bool { return f.Level == invalidation.Fail })
	if err := c.print(env.out, found, !failed); err != nil {
		return err
	}
	if failed {
		return errCheckFailed
	}
	return nil
}

func (c checkCommand) print(out io.Writer, found []daemon.Checked, ok bool) error {
	if c.JSON {
		return printJSON(out, struct {
			OK       bool             `json:"ok"`
			Findings []daemon.Checked `json:"findings"`
		}{ok, found})
	}
	for _, f := range found {
		line := fmt.Sprintf("%-4s  %s: %s  %s", f.Level, f.Of, f.Subject, f.Text)
		if f.Fix != "" {
			line += "  → " + f.Fix
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}
