package redissink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// diagnose says what is wrong with a server, or with what the configuration
// says of it, and what to do. Where the error says it best the text is ""; where
// the server is just away the fix is "" as well.
func diagnose(ctx context.Context, cfg Config, addr string, err error) (text, fix string) {
	var dns *net.DNSError
	switch {
	case strings.Contains(err.Error(), "NOAUTH"):
		return "", "set redis.password or redis.password_file, and redis.username for an ACL user"
	case isWrongPassword(err):
		return "", "correct redis.username and redis.password"
	case mayNotSelect(err):
		return fmt.Sprintf("%s: the user may not choose the database %d", addr, cfg.Redis.DB), cfg.grant("+select")
	case strings.Contains(err.Error(), "DB index is out of range"):
		return fmt.Sprintf("%s has no database %d", addr, cfg.Redis.DB), "correct redis.db, or raise the server's databases"
	case strings.Contains(err.Error(), "SELECT is not allowed in cluster mode"):
		return fmt.Sprintf("%s is a node of a cluster, which has no database %d", addr, cfg.Redis.DB), "set redis.mode: cluster and remove redis.db"
	case isNoRedis(err):
		return fmt.Sprintf("what answers at %s is no Redis", addr), "correct redis.addrs"
	case speaksNoTLS(ctx, cfg, addr):
		return addr + " speaks no TLS", "remove redis.tls, or name the port that speaks TLS"
	case isWrongSetting(err), strings.Contains(err.Error(), "tls:"), strings.Contains(err.Error(), "x509:"):
		return "", "correct redis.tls: ca_file, server_name, cert_file"
	case errors.As(err, &dns):
		return "", "correct the host in redis.addrs"
	case cfg.Redis.TLSConfig == nil && (strings.HasSuffix(err.Error(), "EOF") || strings.Contains(err.Error(), "reset by peer")):
		return addr + ": the connection was closed at once", "if the server speaks TLS, set redis.tls: {}"
	}
	return "", ""
}

func isNoPermission(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "NOPERM") }

// mayNotSelect tells the one NOPERM that a login can end with.
func mayNotSelect(err error) bool {
	return strings.Contains(err.Error(), "NOPERM") && strings.Contains(err.Error(), "'select'")
}

// isNoRedis reports an answer of a server with another protocol.
func isNoRedis(err error) bool {
	return strings.Contains(err.Error(), "redis: invalid reply") || strings.Contains(err.Error(), "redis: can't parse")
}

// speaksNoTLS reports whether a server that is to be asked by TLS answers
// without.
func speaksNoTLS(ctx context.Context, cfg Config, addr string) bool {
	if cfg.Redis.TLSConfig == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(askTimeout)) // it was just opened
	answer := make([]byte, 1)
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return false
	}
	_, err = io.ReadFull(conn, answer)
	return err == nil && (answer[0] == '+' || answer[0] == '-')
}
