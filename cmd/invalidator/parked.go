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
	Retry    bool     `help:"Delete the keys again: those that are named, or all." xor:"do"`
	Drop     bool     `help:"Forget the keys without deleting them: those that are named, or all. What is cached under them may stay stale." xor:"do"`
	Keys     []string `arg:"" help:"What to retry or to drop." name:"key" optional:""`
}

// Run implements the command.
func (c parkedCommand) Run(env *environment) error {
	if len(c.Keys) > 0 && !c.Retry && !c.Drop {
		return usageError{errors.New("keys are named to be retried or dropped: add --retry or --drop")}
	}
	text, err := c.ask(env)
	if err != nil {
		return err
	}
	var page daemon.ParkedPage
	if err := json.Unmarshal(text, &page); err != nil {
		return fmt.Errorf("the daemon's answer is no list of parked keys: %w", err)
	}
	if c.JSON {
		_, err = env.out.Write(text)
	} else {
		err = c.print(env.out, page)
	}
	if err == nil && page.Left > 0 {
		return errors.New("some keys stay parked: mend what refuses them, and retry; or forget them with --drop")
	}
	return err
}

func (c parkedCommand) print(out io.Writer, page daemon.ParkedPage) error {
	switch stay := len(page.Parked); {
	case c.Retry:
		_, _ = fmt.Fprintf(out, "%d keys deleted, %d stay parked\n", page.Deleted, stay)
	case c.Drop:
		_, _ = fmt.Fprintf(out, "%d keys forgotten, %d stay parked: what is cached under the forgotten ones may be stale until it expires or is deleted\n", page.Dropped, stay)
	case stay == 0:
		_, _ = fmt.Fprintln(out, "no keys are parked")
	}
	return printParked(out, page.Parked)
}

func (c parkedCommand) ask(env *environment) ([]byte, error) {
	if c.Retry || c.Drop {
		path := "/parked/retry"
		if c.Drop {
			path = "/parked/drop"
		}
		client, err := c.client(env)
		if err != nil {
			return nil, err
		}
		return client.Post(env, path, daemon.ParkedRequest{Source: c.Source, Keys: c.Keys})
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
