package main

import (
	"time"

	"github.com/seed-038af1a6/invalidator/internal/demo"
)

type demoCommand struct {
	Listen   string        `default:"127.0.0.1:8080" help:"Where the page with the numbers is. Default ${default}."`
	Duration time.Duration `default:"0" help:"How long the application runs, such as 30s. Default 0: until Ctrl-C."`
	Headless bool          `help:"Open no port for a page."`
	Lose     float64       `default:"0.2" help:"The share of the application's own deletes that are lost, 0 to 1. Default ${default}."`
	NoDaemon bool          `help:"Run the same application without the relay, to see what goes stale."`
}

// Run implements the command.
func (c demoCommand) Run(env *environment) error {
	opts := demo.Options{
		Listen: c.Listen, Duration: c.Duration, Headless: c.Headless,
		Lose: c.Lose, NoDaemon: c.NoDaemon, Out: env.out,
	}
	if err := opts.Check(); err != nil {
		return usageError{err}
	}
	return demo.Run(env, opts)
}
