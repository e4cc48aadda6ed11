// Package daemon is the invalidator's daemon: it reads the configuration,
// wires sources to the cache, keeps them running, answers over HTTP how they
// are, and does what an operator asks for: see Client, Check, Positions.
//
//	cfg, err := daemon.Load("invalidator.yaml", daemon.LoadOptions{LookupEnv: os.LookupEnv})
//	err = daemon.Run(ctx, cfg, daemon.Options{Logger: logger})
package daemon
