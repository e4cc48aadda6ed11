package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

type statusCommand struct {
	daemonFlags
	jsonFlag

	Watch bool `help:"Show it again every second, until Ctrl-C."`
}

// clearScreen takes the cursor home and clears what is below.
const clearScreen = "\x1b[H\x1b[2J"

// Run implements the command.
func (c statusCommand) Run(env *environment) error {
	client, err := c.client(env)
	if err != nil {
		return err
	}
	for seen := false; ; seen = true {
		page, err := client.Get(env, "/status", nil)
		switch {
		case env.Err() != nil && c.Watch:
			return nil
		case err != nil && (!c.Watch || !seen):
			return err
		}
		if c.Watch && isTerminal(env.out) {
			_, _ = io.WriteString(env.out, clearScreen)
		}
		if err != nil { // it may be started again
			_, _ = fmt.Fprintln(env.err, "invalidator: "+err.Error())
		} else if err := c.print(env.out, page); err != nil {
			return err
		}
		if !c.Watch || !pause(env, time.Second) {
			return nil
		}
	}
}

// pause reports whether it lasted as long as wanted.
func pause(ctx context.Context, long time.Duration) bool {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (c statusCommand) print(out io.Writer, page []byte) error {
	if c.JSON {
		_, err := out.Write(page)
		return err
	}
	var status daemon.StatusPage
	if err := json.Unmarshal(page, &status); err != nil {
		return fmt.Errorf("the daemon's answer is not a status: %w", err)
	}
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SOURCE\tKIND\tSTATE\tLEADER\tPOSITION\tOLDEST UNDELETED\tLAG\tPARKED\tDELETED\tPURGED\tRESTARTS")
	for _, s := range status.Sources {
		_, _ = fmt.Fprintln(table, strings.Join([]string{
			s.Name, s.Kind, string(s.State), leader(s), short(s.Position), age(s.OldestUndeleted), lag(s.Lag),
			strconv.Itoa(s.Parked), strconv.Itoa(s.Deleted), strconv.Itoa(s.Purged), strconv.Itoa(s.Restarts),
		}, "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, s := range status.Sources {
		if s.Reason != "" {
			_, _ = fmt.Fprintf(out, "%s: %s\n", s.Name, s.Reason)
		}
	}
	return nil
}

func leader(s daemon.Status) string {
	switch {
	case s.Role == daemon.Leading:
		return "this one"
	case s.Leader != "":
		return s.Leader
	}
	return "-"
}

// longestPosition is how much of a position fits into a table.
const longestPosition = 48

func short(position string) string {
	switch {
	case position == "":
		return "-"
	case len(position) > longestPosition:
		return strings.ToValidUTF8(position[:longestPosition], "") + "…"
	}
	return position
}

func age(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	long := time.Duration(*seconds * float64(time.Second))
	if long < 10*time.Second {
		return long.Round(time.Millisecond).String()
	}
	return long.Round(time.Second).String()
}

func lag(l *daemon.LagStatus) string {
	var parts []string
	if l != nil && l.Transactions >= 0 {
		parts = append(parts, strconv.FormatInt(l.Transactions, 10)+" tx")
	}
	if l != nil && l.Bytes >= 0 {
		parts = append(parts, strconv.FormatInt(l.Bytes, 10)+" B")
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, " ")
}
