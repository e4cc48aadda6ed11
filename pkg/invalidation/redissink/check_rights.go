package redissink

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

//go:embed check_rights.lua
var rightsLua string

// right is a command that a Sink sends.
type right struct {
	acl   string // as an ACL names it
	words []string
	what  string // what does not work without it
}

// rights asks the server which of the commands that a Sink sends the user may.
func (c *checks) rights(ctx context.Context, s *checkedServer) {
	subject, needed := s.subject("rights"), c.needed()
	questions := make([]any, len(needed))
	for i, r := range needed {
		text, _ := json.Marshal(r.words) // strings: it does not fail
		questions[i] = text
	}
	allowed, err := s.client.Eval(ctx, rightsLua, nil, questions...).Int64Slice()
	switch {
	case isNoPermission(err):
		c.fail(subject, c.grant("+eval"), "EVAL is refused: the position can not be stored, and no other right could be looked at")
		return
	case err != nil || len(allowed) != len(needed):
		c.warn(subject, "", "could not be looked at: %v", err)
		return
	}
	missing := 0
	for i, r := range needed {
		if allowed[i] == 0 {
			missing++
			c.fail(subject, c.grant(r.acl), "%s is refused: %s", strings.Join(r.words, " "), r.what)
		}
	}
	if missing == 0 {
		c.ok(subject, "all commands on the namespace %q and %d patterns", c.cfg.Namespace, len(c.patterns))
	}
}

// needed lists the commands.
func (c *checks) needed() []right {
	keys := "~" + c.cfg.Namespace + ":*"
	position, parked, lease := PositionKey(c.cfg.Namespace, c.cfg.Source), c.cfg.parkedKey(), c.cfg.leaseKey()
	all := []right{
		{"+get " + keys, []string{"GET", position}, "the position can not be read"},
		{"+set " + keys, []string{"SET", position, "VALUE"}, "the position can not be stored"},
		{"+del " + keys, []string{"DEL", lease}, "the lease can not be given up"},
		{"+eval", []string{"EVAL", "SCRIPT", "1", position}, "the position can not be stored"},
		{"+evalsha", []string{"EVALSHA", "SHA1", "1", position}, "the position can not be stored"},
		{"+script|load", []string{"SCRIPT", "LOAD", "SCRIPT"}, "the position can not be stored"},
		{"+hset " + keys, []string{"HSET", parked, "KEY", "VALUE"}, "keys that can not be deleted can not be parked, and stop the source"},
		{"+hdel " + keys, []string{"HDEL", parked, "KEY"}, "parked keys can not be retried"},
		{"+hlen " + keys, []string{"HLEN", parked}, "keys that can not be deleted can not be parked, and stop the source"},
		{"+hgetall " + keys, []string{"HGETALL", parked}, "parked keys can not be listed"},
		{"+hexists " + keys, []string{"HEXISTS", parked, "KEY"}, "keys that can not be deleted can not be parked, and stop the source"},
		{"+scan", []string{"SCAN", "0"}, "nothing can be purged"},
		{"+dbsize", []string{"DBSIZE"}, "nothing can be purged"},
		{"+info", []string{"INFO", "server"}, "a failover is noticed late"},
	}
	if c.cfg.Redis.IsClusterMode {
		all = append(all,
			right{"+asking", []string{"ASKING"}, "deletes in a slot that moves wait until it has"},
			right{"+cluster|nodes", []string{"CLUSTER", "NODES"}, "nothing can be purged, because slots may be on the move"})
	}
	for _, pattern := range c.patterns {
		all = append(all, right{"+unlink ~" + pattern, []string{"UNLINK", invalidation.KeyLike(pattern)}, "what matches " + pattern + " can not be deleted"})
	}
	return all
}

// grant is the statement that gives the configured user rights.
func (c *checks) grant(rights string) string {
	return "ACL SETUSER " + cmp.Or(c.cfg.Redis.Username, "default") + " " + rights
}
