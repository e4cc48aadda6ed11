// Package daemon is the invalidator's daemon: it reads the configuration,
// wires sources to the cache, keeps them running, and answers over HTTP how
// they are.
//
//	cfg, err := daemon.Load("invalidator.yaml", daemon.LoadOptions{LookupEnv: os.LookupEnv})
//	err = daemon.Run(ctx, cfg, daemon.Options{Logger: logger})
package daemon
