package redissink

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// server looks at one master.
func (c *checks) server(ctx context.Context, s *checkedServer) {
	s.info = map[string]string{}
	text, err := s.client.Info(ctx).Result()
	if err != nil {
		c.warn(s.subject("info"), c.cfg.grant("+info"), "could not be read, so version, role and memory are not checked, and a failover is noticed later: %s", firstLine(err))
	}
	for line := range strings.Lines(text) {
		if field, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			s.info[field] = value
		}
	}
	if err == nil {
		c.version(s)
		c.role(s)
		c.memory(ctx, s)
		c.persistence(ctx, s)
		c.replicas(ctx, s)
	}
	c.rights(ctx, s)
	c.writes(ctx, s)
}

// writes looks at the position with the script that writes it, which a server
// that takes nobody's writes refuses before it runs.
func (c *checks) writes(ctx context.Context, s *checkedServer) {
	subject := s.subject("writes")
	err := s.client.Eval(ctx, positionLua, []string{s.position}, "").Err()
	if err == nil || errors.Is(err, redis.Nil) {
		c.ok(subject, "the server takes them")
		return
	}
	word, _, _ := strings.Cut(err.Error(), " ")
	switch word {
	case "NOPERM": // the rights say it better
	case "READONLY":
		if s.info["role"] != "slave" { // the role says it better
			c.fail(subject, "name the master in redis.addrs, or set redis.mode: sentinel", "are refused: %s", firstLine(err))
		}
	case "NOREPLICAS":
		c.fail(subject, "bring the replicas back, or CONFIG SET min-replicas-to-write 0", "are refused, deletes among them: %s", firstLine(err))
	case "MISCONF":
		setting := "stop-writes-on-bgsave-error"
		if strings.Contains(err.Error(), "AOF") {
			setting = "appendonly"
		}
		c.fail(subject, "mend the disk, or CONFIG SET "+setting+" no", "are refused, deletes among them: %s", firstLine(err))
	case "CLUSTERDOWN":
		c.fail(subject, "redis-cli --cluster fix, or bring the masters back", "are refused, deletes among them: %s", firstLine(err))
	case "LOADING", "BUSY":
		c.warn(subject, "wait", "could not be tried: %s", firstLine(err))
	default:
		c.warn(subject, "", "could not be tried: %s", firstLine(err))
	}
}

func (c *checks) version(s *checkedServer) {
	name, version := "Redis", s.info["redis_version"]
	major, _, _ := strings.Cut(version, ".")
	if valkey := s.info["valkey_version"]; valkey != "" {
		name, version = "Valkey", valkey
	}
	if number, err := strconv.Atoi(major); err != nil || number < 7 {
		c.fail(s.subject("version"), "upgrade to Redis 7.0, or Valkey 7.2, or later", "%s %s: scripts with flags and SET NX GET need Redis 7.0", name, version)
		return
	}
	c.ok(s.subject("version"), "%s %s", name, version)
}

func (c *checks) role(s *checkedServer) {
	role := s.subject("role")
	switch {
	case s.info["redis_mode"] == "sentinel" || s.info["server_mode"] == "sentinel":
		c.fail(role, "set redis.mode: sentinel and redis.master_name", "%s is a Sentinel and no server", s.addr)
	case s.info["cluster_enabled"] == "1" && !s.cluster:
		c.fail(role, "set redis.mode: cluster", "%s is a node of a cluster", s.addr)
	case s.info["role"] == "slave":
		c.fail(role, "name the master in redis.addrs, or set redis.mode: sentinel", "%s is a replica of %s:%s and takes no deletes", s.addr, s.info["master_host"], s.info["master_port"])
	case s.info["loading"] == "1":
		c.warn(role, "wait", "%s is still loading its data", s.addr)
	default:
		c.ok(role, "master")
	}
}

// memory says what a full server does.
func (c *checks) memory(ctx context.Context, s *checkedServer) {
	subject, policy := s.subject("maxmemory-policy"), s.info["maxmemory_policy"]
	if policy == "" {
		policy, _ = c.setting(ctx, s, "maxmemory-policy")
	}
	limited := s.info["maxmemory"] != "0"
	switch {
	case policy == "":
		c.warn(subject, "", "could not be read: what a full server evicts is not known")
	case policy == "noeviction" && limited:
		c.warn(subject, "CONFIG SET maxmemory-policy allkeys-lru", "noeviction: a full server refuses fills; deletes, and the daemon's position, go on")
	case policy == "noeviction":
		c.ok(subject, "noeviction, and maxmemory is 0: nothing is evicted, and nothing keeps the cache from filling the machine")
	case policy == "allkeys-random":
		c.warn(subject, "CONFIG SET maxmemory-policy allkeys-lru", "allkeys-random may evict the daemon's position and lease at any time: it writes them again, but where it is away at that moment its next start purges")
	case strings.HasPrefix(policy, "allkeys-"):
		c.ok(subject, "%s: entries are evicted when memory is full, which costs a load each; the daemon's position is written every second, so it is the last to go, but once a stopped daemon's is evicted its next start purges", policy)
	default:
		c.ok(subject, "%s: entries with a TTL are evicted when memory is full; the daemon's position has none and stays", policy)
	}
}

// persistence says what a restart of the server does.
func (c *checks) persistence(ctx context.Context, s *checkedServer) {
	subject := s.subject("persistence")
	if s.info["rdb_last_bgsave_status"] == "err" || s.info["aof_last_write_status"] == "err" {
		c.warn(subject, "mend the disk", "the last snapshot failed, or the append-only file can not be written: after a crash the cache is as old as what is on the disk, and so is its position: the daemon replays, if the log reaches back as far")
		return
	}
	save, known := c.setting(ctx, s, "save")
	fsync, _ := c.setting(ctx, s, "appendfsync")
	switch {
	case s.info["aof_enabled"] == "1" && fsync == "no":
		c.ok(subject, "appendonly with appendfsync no: after a crash of the machine the cache is up to 30 s older, and so is its position: the daemon replays")
	case s.info["aof_enabled"] == "1":
		c.ok(subject, "appendonly: after a crash the cache is about a second older, and so is its position: the daemon replays")
	case known && save == "":
		c.ok(subject, "none: a restart empties the cache, which is consistent, and the daemon begins anew")
	case known:
		c.ok(subject, "snapshots (save %s): after a crash the cache is as old as the last one, and so is its position: the daemon replays, if the log reaches back as far", save)
	default:
		c.ok(subject, "no append-only file; when snapshots are made could not be read")
	}
}

// replicas says whether writes wait for replicas, and what a failover finds.
func (c *checks) replicas(ctx context.Context, s *checkedServer) {
	subject := s.subject("replication")
	connected, _ := strconv.Atoi(s.info["connected_slaves"])
	wanted, known := c.setting(ctx, s, "min-replicas-to-write")
	need, _ := strconv.Atoi(wanted)
	switch {
	case need > 0:
		c.ok(subject, "%d replicas; without %d of them deletes wait (min-replicas-to-write)", connected, need)
	case connected == 0 && (s.cluster || c.cfg.Redis.MasterName != ""):
		c.warn(subject, "add a replica", "no replica follows this master: nothing takes over when it dies")
	case connected > 0 && known:
		c.ok(subject, "%d replicas; min-replicas-to-write is 0, so a failover may lose the last deletes: the position is lost with them, and the daemon replays", connected)
	default:
		c.ok(subject, "%d replicas", connected)
	}
}

// setting reads one setting; known is false where that is not allowed.
func (c *checks) setting(ctx context.Context, s *checkedServer, name string) (value string, known bool) {
	values, err := s.client.ConfigGet(ctx, name).Result()
	if err != nil {
		return "", false
	}
	value, known = values[name]
	return value, known
}
