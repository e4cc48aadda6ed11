package daemon

func (c *checker) redis(r *Redis) {
	switch r.Mode {
	case modeStandalone, modeCluster:
		c.notSentinel(r)
	case modeSentinel:
		c.required("redis.master_name", r.MasterName, `what the Sentinels call the master, such as "mymaster"`)
		c.password("redis", "sentinel_password", &r.SentinelPassword, r.SentinelPasswordFile)
		if r.SentinelUsername != "" && r.SentinelPassword.Reveal() == "" && !c.withoutSecrets && !c.reported("redis.sentinel_password") && !c.reported("redis.sentinel_password_file") {
			c.add("redis.sentinel_username", "has no password beside it: write sentinel_password or sentinel_password_file")
		}
	default:
		if !c.reported("redis.mode") {
			c.add("redis.mode", "%q is unknown: write standalone, sentinel or cluster", r.Mode)
		}
	}
	c.redisAddresses(r)
	switch {
	case r.DB < 0:
		c.add("redis.db", "is %d: write 0 or more", r.DB)
	case r.DB > 0 && r.Mode == modeCluster:
		c.add("redis.db", "is %d: a cluster has only 0; remove it", r.DB)
	}
	c.password("redis", "password", &r.Password, r.PasswordFile)
	c.tls("redis.tls", r.TLS)
}

func (c *checker) redisAddresses(r *Redis) {
	example := "127.0.0.1:6379"
	if r.Mode == modeSentinel {
		example = "127.0.0.1:26379"
	}
	c.addresses("redis.addrs", r.Addrs, example)
	if len(r.Addrs) > 1 && r.Mode == modeStandalone {
		c.add("redis.addrs", "has %d addresses: a standalone Redis has one; for more set mode to sentinel or cluster", len(r.Addrs))
	}
}

// notSentinel refuses what only Sentinels need.
func (c *checker) notSentinel(r *Redis) {
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"master_name", r.MasterName != ""},
		{"sentinel_username", r.SentinelUsername != ""},
		{"sentinel_password", r.SentinelPassword.Reveal() != ""},
		{"sentinel_password_file", r.SentinelPasswordFile != ""},
	} {
		if field.set {
			c.add("redis."+field.name, "is for the mode sentinel: remove it, or set mode: sentinel")
		}
	}
}
