package servers

// Option changes what [NewSentinel], [NewCluster] and [NewRedisTLS] start.
type Option func(*settings)

type settings struct {
	kind             redisKind
	replicas         int // of each master
	args             []string
	users            []string // lines of a configuration file
	password         string
	sentinelPassword string
	tls              *TLS
	clientCerts      bool
}

func newSettings(replicas int, options []Option) settings {
	s := settings{kind: redis8, replicas: replicas}
	for _, option := range options {
		option(&s)
	}
	return s
}

// OnRedis7 takes Redis 7 instead of 8.
func OnRedis7() Option { return func(s *settings) { s.kind = redis7 } }

// OnValkey takes Valkey 9 instead of Redis 8.
func OnValkey() Option { return func(s *settings) { s.kind = valkey9 } }

// WithArgs gives additional arguments to the servers, not to Sentinels: WithArgs("--appendonly", "yes").
func WithArgs(args ...string) Option {
	return func(s *settings) { s.args = append(s.args, args...) }
}

// WithReplicas sets how many replicas each master has. Default: 2 below Sentinels, 1 in a cluster.
func WithReplicas(n int) Option { return func(s *settings) { s.replicas = n } }

// WithPassword makes the servers ask for a password.
func WithPassword(password string) Option { return func(s *settings) { s.password = password } }

// WithSentinelPassword makes the Sentinels ask for a password.
func WithSentinelPassword(password string) Option {
	return func(s *settings) { s.sentinelPassword = password }
}

// WithUser adds a user to the ACL of every server, not of Sentinels: WithUser("app", "on >secret ~app:* +@all").
func WithUser(name, rules string) Option {
	return func(s *settings) { s.users = append(s.users, "user "+name+" "+rules) }
}

// WithTLS makes the servers, and Sentinels, speak nothing but TLS, to clients and among each other. Certificates are made for the test.
func WithTLS() Option { return func(s *settings) { s.tls = &TLS{} } }

// WithClientCertificates is [WithTLS] for servers that refuse a client without a certificate.
func WithClientCertificates() Option {
	return func(s *settings) { s.tls, s.clientCerts = &TLS{}, true }
}

// WithPartialCoverage lets a cluster answer for the slots that have a master while others have none.
func WithPartialCoverage() Option { return WithArgs("--cluster-require-full-coverage", "no") }
