package cacheaside

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"
)

const exploreKey = "k"

// exploreWorld is what the runs of one scenario share: a Redis and the connections to it, all in memory, so that
// synctest knows when everybody is blocked.
type exploreWorld struct {
	keys    []string
	redis   *miniredis.Miniredis
	conns   []*redis.Client // one for each process
	other   *redis.Client   // of programs that know nothing of this package
	run     *exploredRun    // the current one
	known   map[string]bool // scripts, by hash
	mutant  mutant
	replies bool // replies of scripts are steps
	lose    func(a *actor, args []any) bool
}

func newExploreWorld(t *testing.T, s *scenario) *exploreWorld {
	t.Helper()
	w := &exploreWorld{keys: s.keys, redis: miniredis.NewMiniRedis(), known: map[string]bool{}, mutant: s.mutant, lose: s.lose, replies: s.replies}
	if w.keys == nil {
		w.keys = []string{exploreKey}
	}
	w.other = w.connect()
	for range s.processes {
		c := w.connect()
		c.AddHook(w)
		w.conns = append(w.conns, c)
	}
	return w
}

func (w *exploreWorld) connect() *redis.Client {
	return redis.NewClient(&redis.Options{
		Protocol: 2, DisableIdentity: true, MaxRetries: -1, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer:                   func(context.Context, string, string) (net.Conn, error) { return w.redis.Dial() },
	})
}

// know loads scripts, so that the first run sends the same commands as all others.
func (w *exploreWorld) know(t *testing.T, scripts ...script) {
	t.Helper()
	for _, s := range scripts {
		if !w.known[s.sha] {
			require.NoError(t, w.other.ScriptLoad(t.Context(), s.source).Err())
			w.known[s.sha] = true
		}
	}
}

func (w *exploreWorld) close() {
	for _, c := range append(w.conns, w.other) {
		_ = c.Close()
	}
	w.redis.Close()
}

// newRun makes everything as it is before the first step.
func (w *exploreWorld) newRun(t *testing.T, s *scenario) *exploredRun {
	t.Helper()
	w.redis.FlushAll()
	r := &exploredRun{
		w: w, rows: map[string]*exploredRow{}, loads: map[string]int{}, names: map[string]string{}, given: map[string]int{}, ends: map[string]time.Duration{},
		history: map[string][]string{},
	}
	for _, key := range w.keys {
		r.rows[key] = &exploredRow{}
	}
	r.ctx, r.cancel = context.WithCancel(t.Context())
	w.run = r
	for _, conn := range w.conns {
		o := Options{
			Lease: exploreLease, MaxWait: exploreMaxWait, RedisTimeout: exploreTimeout, DeleteTimeout: exploreTimeout,
			ReturnOwed: true, Observer: ObserverFunc(r.observe),
		}
		if s.options != nil {
			s.options(&o)
		}
		c, err := New(conn, o)
		require.NoError(t, err)
		if s.mutant.client != nil {
			s.mutant.client(c)
		}
		w.know(t, c.fill, c.claim)
		c.hooks.before = r.before
		p := Policy{TTL: exploreTTL}
		if s.policy != nil {
			s.policy(&p)
		}
		r.clients, r.views = append(r.clients, c), append(r.views, s.viewOf(c, p))
	}
	if s.before != nil {
		s.before(r)
	}
	for _, a := range s.actors {
		r.actors = append(r.actors, &a)
	}
	return r
}

// DialHook is part of redis.Hook.
func (w *exploreWorld) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook sees every command that a Client sends, and its reply.
func (w *exploreWorld) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		a := w.sent(ctx, cmd)
		if w.loses(a, cmd) {
			err := net.Error(lostReplyError{})
			cmd.SetErr(err)
			w.run.note(a, "%s: no reply", cmd.Name())
			return err
		}
		err := next(ctx, cmd)
		w.answered(a, cmd)
		if a != nil && w.replies && cmd.Name() == "evalsha" {
			w.run.before(ctx, "reply", "")
		}
		return err
	}
}

// ProcessPipelineHook is ProcessHook for several commands.
func (w *exploreWorld) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var a *actor
		for _, cmd := range cmds {
			a = w.sent(ctx, cmd)
			if w.loses(a, cmd) {
				cmd.SetErr(lostReplyError{})
				return lostReplyError{}
			}
		}
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			w.answered(a, cmd)
		}
		return err
	}
}

// loses reports whether the command is the one that the run loses.
func (w *exploreWorld) loses(a *actor, cmd redis.Cmder) bool {
	if a == nil || w.lose == nil {
		return false
	}
	r := w.run
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.free || r.lost != nil || !w.lose(a, cmd.Args()) {
		return false
	}
	r.lost = slices.Clone(cmd.Args())
	return true
}

// lostCommand is what the run lost; nil if nothing yet.
func (r *exploredRun) lostCommand() []any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// lostReplyError is what a Redis client returns when the reply did not come in time.
type lostReplyError struct{}

func (lostReplyError) Error() string   { return "i/o timeout" }
func (lostReplyError) Timeout() bool   { return true }
func (lostReplyError) Temporary() bool { return true }

// sent names the random bytes that the command carries after who sent them.
func (w *exploreWorld) sent(ctx context.Context, cmd redis.Cmder) *actor {
	a, ok := ctx.Value(actorKey{}).(*actor)
	if !ok || w.run == nil {
		return nil
	}
	if w.mutant.wire != nil {
		w.mutant.wire(w.run, a, cmd.Args())
	}
	r := w.run
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, arg := range cmd.Args() {
		raw, ok := arg.([]byte)
		if !ok {
			continue
		}
		if id := identity(raw); id != "" && r.names[id] == "" {
			r.given[a.name]++
			r.names[id] = fmt.Sprintf("%s.%d", a.name, r.given[a.name])
		}
	}
	return a
}

// identity is what is random in an entry.
func identity(raw []byte) string {
	switch k, h, _ := parse(raw); k {
	case kindLease:
		return string(raw[1:])
	case kindValue:
		return string(h.fill[:])
	case kindForeign:
	}
	return ""
}

func (w *exploreWorld) answered(a *actor, cmd redis.Cmder) {
	if a == nil || cmd.Name() == "hello" {
		return
	}
	reply := fmt.Sprint(cmd.Err())
	if cmd.Err() == nil {
		reply = w.run.readable(replyOf(cmd))
	}
	w.run.note(a, "%s: %s", cmd.Name(), reply)
}

func replyOf(cmd redis.Cmder) any {
	switch c := cmd.(type) {
	case interface{ Val() string }:
		return c.Val()
	case interface{ Val() int64 }:
		return c.Val()
	case interface{ Val() []any }:
		return c.Val()
	case interface{ Val() any }:
		return c.Val()
	}
	return cmd.String()
}

func (r *exploredRun) readable(reply any) string {
	switch v := reply.(type) {
	case string:
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.describe([]byte(v))
	case []any:
		var all []string
		for _, one := range v {
			all = append(all, r.readable(one))
		}
		return strings.Join(all, ", ")
	}
	return fmt.Sprint(reply)
}

// describe leaves out what is random and what tells the time. mu is held.
func (r *exploredRun) describe(raw []byte) string {
	switch k, h, payload := parse(raw); k {
	case kindLease:
		return "lease " + r.names[identity(raw)] + " "
	case kindValue:
		soft := ""
		if !h.softExpiry.IsZero() {
			soft = fmt.Sprint(" old: ", !h.softExpiry.After(time.Now()))
		}
		var l exploredLoad
		if json.Unmarshal(payload, &l) == nil {
			payload = fmt.Appendf(nil, "version %d after %d deletes", l.Version, l.Began)
		}
		return fmt.Sprintf("value %s %s%s flags %d", r.names[identity(raw)], payload, soft, h.flags)
	case kindForeign:
	}
	return fmt.Sprintf("%q", raw)
}

// stored describes what is in the Redis. mu is held.
func (r *exploredRun) stored() string {
	var all []string
	for _, key := range r.w.keys {
		all = append(all, key+"="+r.entry(key))
	}
	return strings.Join(all, " ")
}

func (r *exploredRun) entry(key string) string {
	switch r.w.redis.Type(key) {
	case "":
		return "nothing"
	case "string":
		raw, _ := r.w.redis.Get(key)
		return r.describe([]byte(raw)) + map[bool]string{true: "", false: " for ever"}[r.w.redis.TTL(key) > 0]
	}
	return "a " + r.w.redis.Type(key)
}

// raw returns the strings that are stored.
func (r *exploredRun) raw() map[string]string {
	found := map[string]string{}
	for _, key := range r.w.keys {
		if r.w.redis.Type(key) == "string" {
			found[key], _ = r.w.redis.Get(key)
		}
	}
	return found
}
