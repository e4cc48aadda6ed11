package redissink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// chunk is keys that one master deletes, in pipelines of bounded size.
type chunk struct {
	sink    *Sink
	shard   *shard
	found   *tally
	left    []string // not answered yet
	moved   []string // to be sent elsewhere
	why     error    // why some of them are, where that is no news of the layout
	single  bool     // a command for each key: one was refused, and which is not known
	parks   bool     // what is refused for good is remembered
	refusal error    // why some were, the first time
}

// unlink is one command of a pipeline.
type unlink struct {
	group string
	keys  []string
	reply *redis.IntCmd
}

// delete sends pipelines until each key was answered; one where there are no
// keys. What is left after an error was not deleted.
func (c *chunk) delete(ctx context.Context, doing string) error {
	for first := true; first || len(c.left) > 0; first = false {
		if err := c.sink.persist(ctx, c.shard, doing, func() error { return c.send(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// send sends one pipeline. What is left after an error has to be sent again.
func (c *chunk) send(ctx context.Context) error {
	keys := c.left[:min(len(c.left), c.shard.size.get())]
	commands := c.commands(keys)
	err := c.shard.send(ctx, func(pipe redis.Pipeliner) {
		for i := range commands {
			commands[i].reply = pipe.Unlink(ctx, commands[i].keys...)
		}
	})
	c.shard.size.learn(len(keys), err)
	if err != nil {
		return err
	}
	rest := c.left[len(keys):]
	again, err := c.read(ctx, commands)
	if c.left = rest; len(again) > 0 {
		c.left = slices.Concat(again, rest)
	}
	return err
}

// commands groups the keys for the report, and bounds each command.
func (c *chunk) commands(all []string) []unlink {
	var commands []unlink
	perCommand := c.sink.perCommand()
	if c.single {
		perCommand = 1
	}
	add := func(group string, all []string) {
		for keys := range slices.Chunk(all, perCommand) {
			commands = append(commands, unlink{group: group, keys: keys})
		}
	}
	if len(all) == 0 {
		return nil
	}
	first := c.found.of(all[0])
	if !slices.ContainsFunc(all, func(key string) bool { return c.found.of(key) != first }) {
		add(first, all)
		return commands
	}
	byGroup := map[string][]string{}
	for _, key := range all {
		group := c.found.of(key)
		byGroup[group] = append(byGroup[group], key)
	}
	for group, keys := range byGroup {
		add(group, keys)
	}
	return commands
}

// read reads every reply, and returns the keys that have to be sent again. What
// was refused for good is left, or parked.
func (c *chunk) read(ctx context.Context, commands []unlink) (again []string, err error) {
	c.single = false
	var refused []string
	var failed error
	asked := map[string][]string{} // by address
	for _, cmd := range commands {
		n, err := cmd.reply.Result()
		switch {
		case err == nil:
			c.found.add(cmd.group, len(cmd.keys), int(n))
		case redirect(err, "ASK ") != "":
			addr := redirect(err, "ASK ")
			asked[addr] = append(asked[addr], cmd.keys...)
		case redirect(err, "MOVED ") != "":
			c.sink.topology.hint(redirect(err, "MOVED "))
			c.moved, c.why = append(c.moved, cmd.keys...), fmt.Errorf("delete: %w", errDisputed(slotOf(cmd.keys[0]), c.shard.address(), err))
		case isRefused(err) && len(cmd.keys) == 1:
			refused, c.refusal = append(refused, cmd.keys...), cmp.Or(c.refusal, err)
		case isRefused(err):
			c.single, failed = true, errAgain // which one is it?
			again = append(again, cmd.keys...)
		default:
			failed = worse(err, failed)
			again = append(again, cmd.keys...)
		}
	}
	for addr, keys := range asked {
		err := c.sink.ask(ctx, addr, keys, c.found)
		switch {
		case errors.Is(err, errBehind):
			c.found.leave(keys) // its own position brings them back
		case err != nil && redirect(err, "MOVED ") != "":
			c.moved, c.why = append(c.moved, keys...), fmt.Errorf("delete: the slot %d is on its way to %s, which does not take it: finish its migration or undo it (redis-cli --cluster fix)", slotOf(keys[0]), addr)
		case err != nil:
			c.moved, c.why = append(c.moved, keys...), fmt.Errorf("delete at %s, where their slot is on its way to: %w", addr, err)
		}
	}
	if len(refused) > 0 && c.parks {
		if err := c.sink.park(ctx, c.shard, refused, c.refusal); err != nil {
			return append(again, refused...), err
		}
	}
	c.found.leave(refused)
	return again, failed
}

// redirect returns the address that a MOVED or ASK names; "" for others.
func redirect(err error, kind string) string {
	rest, ok := strings.CutPrefix(err.Error(), kind)
	if !ok {
		return ""
	}
	_, addr, _ := strings.Cut(rest, " ")
	return strings.TrimSpace(addr)
}
