package main

import (
	"errors"
	"fmt"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

type positionCommand struct {
	Show positionShow `cmd:"" help:"Show what the cache remembers of each source, and who leads."`
	Set  positionSet  `cmd:"" help:"Set where a source begins, while its daemon is stopped."`
}

type positionShow struct {
	configFlag
	sourceFlag
	jsonFlag
}

// Run implements the command.
func (c positionShow) Run(env *environment) error {
	cfg, err := c.load(env, false)
	if err != nil {
		return err
	}
	found, err := daemon.Positions(env, cfg, c.Source)
	if err != nil {
		return whichSource(err)
	}
	if c.JSON {
		return printJSON(env.out, found)
	}
	for _, state := range found {
		leads := "nobody leads"
		if state.Leader != "" {
			leads = state.Leader + " leads"
		}
		_, _ = fmt.Fprintf(env.out, "%s: %s\n", state.Source, leads)
		for _, master := range state.Masters {
			at := master.Position
			if at == "" {
				at = "no position"
			}
			_, _ = fmt.Fprintf(env.out, "%s: %s: %s\n", state.Source, master.Addr, at)
		}
	}
	return nil
}

type positionSet struct {
	configFlag

	Source   string `help:"The source, where there are several." placeholder:"NAME"`
	Now      bool   `help:"Begin at the end of the log as it is now: for a cache whose entries are all fresh."`
	Position string `arg:"" help:"The position, as position show prints it." optional:""`
}

// Run implements the command.
func (c positionSet) Run(env *environment) error {
	if c.Now == (c.Position != "") {
		return usageError{errors.New("say which position to set: --now, or one as position show prints it")}
	}
	cfg, err := c.load(env, false)
	if err != nil {
		return err
	}
	position, err := daemon.SetPosition(env, cfg, c.Source, c.Position)
	if err != nil {
		return whichSource(err)
	}
	_, _ = fmt.Fprintln(env.out, "set to "+position)
	return nil
}

// whichSource makes a mistake in --source one of usage.
func whichSource(err error) error {
	if errors.Is(err, daemon.ErrWhichSource) {
		return usageError{err}
	}
	return err
}
