package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

type parkedCommand struct {
	commandFlags
	sourceFlag
	jsonFlag

	ShowKeys bool     `help:"Show the keys, which can be personal data."`
	Retry    bool     `help:"Delete the keys again: those that are named, or all."`
	Keys     []string `arg:"" help:"What to retry." name:"key" optional:""`
}

// Run implements the command.
func (c parkedCommand) Run(env *environment) error {
	if len(c.Keys) > 0 && !c.Retry {
		return usageError{errors.New("keys are named for a retry: add --retry")}
	}
	page, err := c.ask(env)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err := env.out.Write(page)
		return err
	}
	var parked daemon.ParkedPage
	if err := json.Unmarshal(page, &parked); err != nil {
		return fmt.Errorf("the daemon's answer is no list of parked keys: %w", err)
	}
	if c.Retry {
		_, _ = fmt.Fprintf(env.out, "%d keys deleted, %d stay parked\n", parked.Deleted, len(parked.Parked))
	} else if len(parked.Parked) == 0 {
		_, _ = fmt.Fprintln(env.out, "no keys are parked")
	}
	if err := printParked(env.out, parked.Parked); err != nil {
		return err
	}
	retried := len(c.Keys)
	if retried == 0 {
		retried = parked.Deleted + len(parked.Parked)
	}
	if c.Retry && parked.Deleted < retried {
		return errors.New("some keys stay parked: mend what refuses them, and retry")
	}
	return nil
}

func (c parkedCommand) ask(env *environment) ([]byte, error) {
	if c.Retry {
		client, err := c.client(env)
		if err != nil {
			return nil, err
		}
		return client.Post(env, "/parked/retry", daemon.RetryRequest{Source: c.Source, Keys: c.Keys})
	}
	query := url.Values{}
	if c.Source != "" {
		query.Set("source", c.Source)
	}
	open := c.daemonFlags.client
	if c.ShowKeys {
		query.Set("show_keys", "true")
		open = c.client
	}
	client, err := open(env)
	if err != nil {
		return nil, err
	}
	return client.Get(env, "/parked", query)
}

func printParked(out io.Writer, keys []daemon.ParkedKey) error {
	if len(keys) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SOURCE\tSINCE\tKEY\tERROR")
	for _, k := range keys {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%q\t%s\n", k.Source, k.Since.UTC().Format(time.RFC3339), k.Key, k.Error)
	}
	return table.Flush()
}
