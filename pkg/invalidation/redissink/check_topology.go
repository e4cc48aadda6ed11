package redissink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// topology finds the masters; nil where there are none to look at.
func (c *checks) topology(ctx context.Context) *layout {
	switch {
	case c.cfg.Redis.MasterName != "":
		return c.sentinels(ctx)
	case c.cfg.Redis.IsClusterMode:
		return c.cluster(ctx)
	}
	return &layout{masters: c.cfg.Redis.Addrs[:1]}
}

// sentinels asks each Sentinel for the master and whether a failover could be
// agreed on.
func (c *checks) sentinels(ctx context.Context) *layout {
	asked := newSentinels(c.cfg)
	defer asked.close()
	masters := map[string][]string{} // master -> the Sentinels that name it
	fewest := 0
	for i, client := range asked.clients {
		addr := asked.addrs[i]
		info, err := client.Master(ctx, asked.name).Result()
		if err != nil {
			c.sentinelFails(ctx, addr, err)
			continue
		}
		at := info["ip"] + ":" + info["port"]
		masters[at] = append(masters[at], addr)
		if others, err := strconv.Atoi(info["num-other-sentinels"]); err == nil && (fewest == 0 || others+1 < fewest) {
			fewest = others + 1
		}
		c.quorum(ctx, addr, client)
	}
	if len(masters) > 1 {
		c.warn("sentinels", "look at SENTINEL MASTER on each; the one with the newest config-epoch is believed", "the Sentinels name different masters: %s", namedBy(masters))
	}
	if fewest > 0 && fewest < 3 {
		c.warn("sentinels", "run at least three, on machines of their own", "there are %d Sentinels: when a machine dies with one of them, nobody can agree on a failover", fewest)
	}
	in, err := asked.ask(ctx)
	if err != nil {
		fix := "correct redis.addrs, which are those of the Sentinels, and redis.master_name"
		if isWrongPassword(err) {
			fix = "correct redis.sentinel_username and redis.sentinel_password"
		}
		c.fail("sentinels", fix, "none names a master %q: %s", asked.name, firstLine(err))
		return nil
	}
	c.ok("sentinels", "%s is the master %q", in.masters[0], asked.name)
	return in
}

func namedBy(masters map[string][]string) string {
	var parts []string
	for master, by := range masters {
		parts = append(parts, fmt.Sprintf("%s (%s)", master, strings.Join(by, ", ")))
	}
	return strings.Join(parts, "; ")
}

func (c *checks) sentinelFails(ctx context.Context, addr string, err error) {
	subject := "sentinel " + addr
	switch {
	case errors.Is(err, redis.Nil), strings.Contains(err.Error(), "No such master"):
		c.warn(subject, "correct redis.master_name; SENTINEL MASTERS lists the names", "knows no master %q", c.cfg.Redis.MasterName)
	case strings.Contains(err.Error(), "unknown command"), isNoRedis(err):
		c.warn(subject, "redis.addrs has to list the Sentinels, such as host:26379, and not the servers", "is no Sentinel")
	case isWrongPassword(err):
		c.warn(subject, "set redis.sentinel_username and redis.sentinel_password", "refuses the login: %s", firstLine(err))
	case speaksNoTLS(ctx, c.cfg, addr):
		c.warn(subject, "remove redis.tls, or name the port that speaks TLS", "speaks no TLS")
	default:
		c.warn(subject, "start it, or remove it from redis.addrs", "does not answer: %s", firstLine(err))
	}
}

func (c *checks) quorum(ctx context.Context, addr string, client *redis.SentinelClient) {
	answer, err := client.CkQuorum(ctx, c.cfg.Redis.MasterName).Result()
	subject := "sentinel " + addr
	switch {
	case isNoPermission(err):
		c.warn(subject, "", "may not be asked for its quorum")
	case err != nil:
		c.warn(subject, "start the Sentinels that are missing", "could not agree on a failover now: %s", firstLine(err))
	default:
		c.ok(subject, "%s", answer)
	}
}

// cluster asks the cluster for its masters and whether all slots have one.
func (c *checks) cluster(ctx context.Context) *layout {
	asked := newTopology(c.cfg)
	defer asked.close()
	in, err := asked.ask(ctx)
	if err != nil {
		c.clusterFails(ctx, err)
		return nil
	}
	covered := slots
	for _, owner := range in.owner {
		if owner == "" {
			covered--
		}
	}
	switch {
	case covered < slots:
		c.fail("cluster", "redis-cli --cluster fix, or bring the masters back", "%d of %d slots have a master: keys in the others can not be deleted", covered, slots)
	case len(in.masters) < 3:
		c.warn("cluster", "use three masters or more", "%d masters: they can not agree on a failover when one dies", len(in.masters))
	default:
		c.ok("cluster", "%d masters have all %d slots", len(in.masters), slots)
	}
	return in
}

func (c *checks) clusterFails(ctx context.Context, err error) {
	noRights := strings.Contains(err.Error(), "NOPERM")
	switch {
	case strings.Contains(err.Error(), "cluster support disabled"), noRights && c.isNoCluster(ctx):
		c.fail("cluster", "set redis.mode: standalone, or sentinel", "%s is no cluster", strings.Join(c.cfg.Redis.Addrs, ", "))
	case noRights:
		c.fail("cluster", c.cfg.grant("+cluster|slots +cluster|info +cluster|nodes +asking"), "the user may not ask for the slots: %s", firstLine(err))
	default:
		c.unreachable(ctx, "cluster", c.cfg.Redis.Addrs[0], err)
	}
}

// isNoCluster asks a server whose user may not ask for the slots.
func (c *checks) isNoCluster(ctx context.Context) bool {
	client := redis.NewClient(c.cfg.options(c.cfg.Redis.Addrs[0], func() {}))
	defer client.Close()
	info, err := client.Info(ctx, "cluster").Result()
	return err == nil && strings.Contains(info, "cluster_enabled:0")
}

// lease says who leads for a source, and fails where that one reads another log.
func (c *checks) lease(ctx context.Context, cfg Config, in *layout, servers []*checkedServer) {
	at := slices.IndexFunc(servers, func(s *checkedServer) bool { return s.addr == in.ownerOf(slotOf(cfg.leaseKey())) })
	if at < 0 {
		return
	}
	stored, err := servers[at].client.Get(ctx, cfg.leaseKey()).Result()
	switch {
	case errors.Is(err, redis.Nil):
		c.ok("lease", "no daemon leads for %q in the namespace %q", cfg.Source, cfg.Namespace)
		return
	case isWrongType(err):
		c.warn("lease", "DEL "+cfg.leaseKey()+"; if another program needs that key, give this daemon a namespace of its own",
			"no daemon leads for %q in the namespace %q, and the next one replaces what is there: %s holds another type of value", cfg.Source, cfg.Namespace, cfg.leaseKey())
		return
	case isNoPermission(err): // the rights say it better
		return
	case err != nil:
		c.warn("lease", "", "who leads for %q could not be read: %s", cfg.Source, firstLine(err))
		return
	}
	theirs := parseHolder(stored)
	if cfg.Identity != nil {
		ours, err := cfg.Identity(ctx)
		if err == nil && ours.conflicts(theirs.Identity) {
			c.fail("lease", "give this daemon a namespace of its own",
				"%s leads for %q in the namespace %q for another database: server %s at %s; here it is %s at %s", theirs.Name, cfg.Source, cfg.Namespace,
				theirs.Server, strings.Join(theirs.Hosts, " "), ours.Server, strings.Join(ours.Hosts, " "))
			return
		}
	}
	c.ok("lease", "%s leads for %q in the namespace %q", theirs.Name, cfg.Source, cfg.Namespace)
}
