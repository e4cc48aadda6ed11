package cacheaside

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrOwed is wrapped by the errors of [Client.Delete], and with [Options.ReturnOwed] of [Client.Write], when keys could
// not be deleted and are left to the background retry.
var ErrOwed = errors.New("cacheaside: deletes are owed, entries may be stale until they are done")

const deleteChunk = 500 // keys per pipeline

// Write runs write, which commits to the database and returns the keys that this made stale, and then deletes them.
//
// The keys are deleted whatever error comes with them: a commit whose reply was lost is a commit. So write returns its
// keys beside its error too. When write panics its keys are unknown: nothing is deleted, the panic goes on, and the
// entries are stale until their TTL, or until the daemon deletes them, if it had committed.
//
// Write's error is write's own. A delete that fails is owed: [Options.Observer] is told, and it is tried again in the
// background. With [Options.ReturnOwed] the error also wraps [ErrOwed] then; the write itself may have been done all
// the same, so a caller must not repeat it for that. The deletes don't stop when ctx is cancelled; [Options.DeleteTimeout]
// bounds them.
func (c *Client) Write(ctx context.Context, write func(ctx context.Context) (stale []string, err error)) error {
	stale, err := write(ctx)
	owed := c.Delete(ctx, stale...)
	if !c.opts.ReturnOwed || owed == nil {
		return err
	}
	return errors.Join(err, owed)
}

// Delete deletes keys, which need not exist. It is for writes that [Client.Write] does not fit; call it after the
// commit.
//
// When it returns nil, no Get that starts afterwards returns anything loaded before. Otherwise the error wraps
// [ErrOwed], and the keys that failed are tried again in the background; a caller may also just call Delete again. Like
// Write's, the deletes don't stop when ctx is cancelled.
func (c *Client) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.opts.DeleteTimeout)
	defer cancel()
	failed, err := c.unlink(bounded, keys)
	c.flights.forget(keys)
	if err == nil {
		return nil
	}
	c.owed.add(ctx, failed, err)
	return fmt.Errorf("%w: %d of %d keys: %w", ErrOwed, len(failed), len(keys), err)
}

// unlink deletes keys and returns those that failed, with one of the reasons. Each key is a command of its own, because
// the keys of one command would have to share a slot in a cluster.
func (c *Client) unlink(ctx context.Context, keys []string) (failed []string, reason error) {
	for chunk := range slices.Chunk(keys, deleteChunk) {
		pipe := c.deletes.Pipeline()
		for _, key := range chunk {
			c.hooks.at(ctx, stepDelete, key)
			pipe.Unlink(ctx, key)
		}
		cmds, err := pipe.Exec(ctx)
		if err == nil {
			continue
		}
		reason = fmt.Errorf("delete: %w", err)
		for i, key := range chunk {
			if len(cmds) != len(chunk) || cmds[i].Err() != nil {
				failed = append(failed, key)
			}
		}
	}
	return failed, reason
}
