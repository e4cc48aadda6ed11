package daemon

import (
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// mysqlExample is an address in messages.
const mysqlExample = "127.0.0.1:3306"

// checker looks for mistakes that a decoded Config still has, and reads the
// password files.
type checker struct {
	*problems

	withoutSecrets bool
	reads          func(path string) bool // which secrets are wanted
}

// namePattern is what can be part of a Redis key and of a log line as it is.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$`)

func (c *checker) config(cfg *Config) {
	if c.required("namespace", cfg.Namespace, `the prefix of the daemon's own keys, such as "shop-prod"`) {
		c.name("namespace", cfg.Namespace)
	}
	c.redis(&cfg.Redis)
	if len(cfg.Sources) == 0 && !c.reported("sources") {
		c.add("sources", "is missing: name at least one log to read, under mysql or postgres")
	}
	for i := range cfg.Sources {
		c.source(index("sources", i), &cfg.Sources[i])
	}
	c.uniqueNames(cfg.Sources)
	c.ownKeys(cfg)
	if (cfg.PurgeRate < -1 || cfg.PurgeRate == 0) && !c.reported("purge_rate") {
		c.add("purge_rate", "is %d: write how many keys a purge may delete in a second, or -1 for no limit", cfg.PurgeRate)
	}
	c.http(&cfg.HTTP)
}

func (c *checker) source(path string, s *Source) {
	if c.required(path+".name", s.Name, "any short name, for logs and for the position's key") {
		c.name(path+".name", s.Name)
	}
	switch {
	case s.MySQL != nil && s.Postgres != nil:
		c.add(path, "has both mysql and postgres: make two sources of it")
	case s.MySQL != nil:
		c.mysql(path, s)
	case s.Postgres != nil:
		c.postgres(path, s)
	case !c.reported(path) && !c.reported(path+".mysql") && !c.reported(path+".postgres"):
		c.add(path, "has neither mysql nor postgres: say which log to read")
	}
	for i, host := range s.ReadsFrom {
		c.address(index(path+".reads_from", i), host, mysqlExample, false)
	}
}

func (c *checker) mysql(path string, s *Source) {
	c.addresses(path+".mysql.hosts", s.MySQL.Hosts, mysqlExample)
	c.required(path+".mysql.user", s.MySQL.User, "the user that reads the binlog")
	c.password(path+".mysql", "password", &s.MySQL.Password, s.MySQL.PasswordFile)
	c.tls(path+".mysql.tls", s.MySQL.TLS)
	if len(s.Purge) > 0 {
		c.add(path+".purge", "is for postgres sources: a mysql source purges the patterns of its rules; remove it")
	}
	if c.reported(path + ".rules") {
		return
	}
	if _, err := invalidation.NewRules(s.MappingRules()); err != nil {
		c.joined(path, err)
	}
}

// joined notes each line of an error whose lines begin with a path below
// prefix.
func (c *checker) joined(prefix string, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		below, what, _ := strings.Cut(line, ": ")
		if at := prefix + "." + below; !c.reported(at) {
			c.add(at, "%s", what)
		}
	}
}

func (c *checker) postgres(path string, s *Source) {
	c.addresses(path+".postgres.hosts", s.Postgres.Hosts, "127.0.0.1:5432")
	c.required(path+".postgres.user", s.Postgres.User, "the user that reads the outbox")
	c.required(path+".postgres.database", s.Postgres.Database, "the database that has the outbox")
	c.password(path+".postgres", "password", &s.Postgres.Password, s.Postgres.PasswordFile)
	c.tls(path+".postgres.tls", s.Postgres.TLS)
	if len(s.Rules) > 0 {
		c.add(path+".rules", "are for mysql sources: a postgres source deletes the keys in its outbox; remove them")
	}
	if len(s.ReadsFrom) > 0 {
		c.add(path+".reads_from", "is for mysql sources: where loaders read a replica of postgres, set second_delete to more than its lag")
	}
	if len(s.Purge) == 0 && s.OnLostPosition.OnLost != invalidation.FailOnLost && !c.reported(path+".purge") {
		c.add(path+".purge", `is missing: list the globs to purge when the position is lost, such as "order:*", or set on_lost_position: fail`)
	}
	for i, glob := range s.Purge {
		at := index(path+".purge", i)
		if err := invalidation.CheckPattern(glob); err != nil && !c.reported(at) {
			c.add(at, "%v", err)
		}
	}
}

// longestSocket is how long the path of a Unix socket may be: 104 bytes and a
// zero on macOS, a little more on Linux.
const longestSocket = 103

func (c *checker) http(h *HTTP) {
	c.address("http.listen", h.Listen, DefaultListen, true)
	c.password("http", "token", &h.Token, h.TokenFile)
	field := "http.token"
	if h.TokenFile != "" {
		field = "http.token_file"
	}
	if strings.ContainsFunc(h.Token.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) && !c.reported(field) {
		c.add(field, "has a character that can not stand in a header: write letters and digits, such as those of openssl rand -hex 16")
	}
	if len(h.Socket) > longestSocket {
		c.add("http.socket", "has a path of %d bytes, and no system opens one of more than %d: choose a shorter one, such as /run/invalidator.sock", len(h.Socket), longestSocket)
	}
}

func (c *checker) uniqueNames(sources []Source) {
	first := map[string]int{}
	for i, s := range sources {
		if at, twice := first[s.Name]; twice && s.Name != "" {
			c.add(index("sources", i)+".name", "%q is the name of sources[%d] too: their positions would collide", s.Name, at)
			continue
		}
		first[s.Name] = i
	}
}

// ownKeys refuses rules and globs for the daemon's own keys, which are never
// deleted by either.
func (c *checker) ownKeys(cfg *Config) {
	check := func(path, literal string) {
		if cfg.Namespace != "" && redissink.IsOwnKey(cfg.Namespace, literal) && !c.reported(path) {
			c.add(path, "names the daemon's own keys, below the namespace %q: choose another namespace, or another key", cfg.Namespace)
		}
	}
	for i, s := range cfg.Sources {
		for j, rule := range s.Rules {
			for k, key := range rule.Keys {
				literal, _, _ := strings.Cut(key, "{")
				check(index(index(index("sources", i)+".rules", j)+".keys", k), literal)
			}
		}
		for j, glob := range s.Purge {
			check(index(index("sources", i)+".purge", j), globPrefix(glob))
		}
	}
}

// required reports whether there is a value, and notes it if there is none.
func (c *checker) required(path, value, remedy string) bool {
	if value == "" && !c.reported(path) {
		c.add(path, "is missing: write %s", remedy)
	}
	return value != "" && !c.reported(path)
}

func (c *checker) name(path, value string) {
	if !namePattern.MatchString(value) {
		c.add(path, "%q is not a name: write up to 63 letters, digits, and . _ : -, a letter or digit first", value)
	}
}

func (c *checker) addresses(path string, addrs []string, example string) {
	if len(addrs) == 0 && !c.reported(path) {
		c.add(path, "is missing: write at least one host:port, such as %q", example)
	}
	for i, addr := range addrs {
		c.address(index(path, i), addr, example, false)
	}
}

// address checks a host:port; anyHost lets the host be empty. The address is not
// shown: a whole DSN may stand here.
func (c *checker) address(path, addr, example string, anyHost bool) {
	if c.reported(path) {
		return
	}
	host, port, err := net.SplitHostPort(addr)
	switch {
	case strings.Contains(addr, "@"):
		c.add(path, "has an @, and no address has one: write host:port alone, such as %q, and user and password into fields of their own", example)
		return
	case err != nil || host == "" && !anyHost:
		c.add(path, "is not host:port: write both, such as %q", example)
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 && !anyHost {
		c.add(path, "is not host:port: the port has to be a number between 1 and 65535")
	}
}

// password reads the file that a secret of a section comes from, as in
// password_file beside password.
func (c *checker) password(section, field string, secret *Secret, file string) {
	if file == "" || !c.reads(section+"."+field) {
		return
	}
	at := section + "." + field + "_file"
	if secret.Reveal() != "" {
		c.add(at, "is set beside %s: remove one of them", field)
		return
	}
	content, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		c.add(at, "can not be read: %v", reason(err))
		return
	}
	*secret = NewSecret(strings.TrimRight(string(content), "\r\n"))
	if secret.Reveal() == "" {
		c.add(at, "is empty: write the %s into it", strings.ReplaceAll(field, "_", " "))
	}
}
