package binlog

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// errStreamEnded: the reader stopped and says why itself.
var errStreamEnded = errors.New("the stream ended")

// gateError marks a wait for visibility that failed.
type gateError struct{ error }

func (e gateError) Unwrap() error { return e.error }

func partOf(err error) string {
	if _, ok := errors.AsType[gateError](err); ok {
		return invalidation.PartGate
	}
	return invalidation.PartSource
}

// lineError joins errors on one line.
type lineError []error

func (e lineError) Unwrap() []error { return e }

func (e lineError) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = strings.Join(strings.Fields(err.Error()), " ")
	}
	return strings.Join(texts, "; ")
}

// What the server's library or the network does not tell by a type.
var (
	errNoMySQL = errors.New("no MySQL server answers there")
	errNoTLS   = errors.New("the server does not speak TLS")
)

// explain adds the remedy to what MySQL refuses, and marks as fatal what only a
// person can change.
func (s *Source) explain(err error) error {
	if err == nil {
		return errStreamEnded
	}
	if _, explained := errors.AsType[invalidation.AdvisedError](err); explained {
		return err
	}
	fix, fatal := s.advice(err)
	if fix != "" {
		err = invalidation.AdvisedError{Err: err, Fix: fix}
	}
	if fatal {
		return invalidation.Fatal(fmt.Errorf("source %q: %w", s.cfg.Name, err))
	}
	return err
}

// erAccountLocked is what a locked account is told.
const erAccountLocked = 3118

// advice says how to mend an error, "" where that is not known. What does not
// get better by waiting is fatal.
func (s *Source) advice(err error) (fix string, fatal bool) {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "check tls: ca_file for the authority that signed the server's certificate, server_name for the name in it", true
	}
	refused, ok := errors.AsType[*mysql.MyError](err)
	switch {
	case errors.Is(err, errNoMySQL):
		return "correct hosts; or, where it is the MySQL server, see why it does not answer", false
	case errors.Is(err, errNoTLS):
		return "remove tls from the configuration, or turn it on at the server: tls_version, ssl_cert and ssl_key", false
	case !ok:
		return "", false
	}
	account := quote(s.cfg.User) // the host that belongs to it is known behind the login only
	switch refused.Code {
	case mysql.ER_ACCESS_DENIED_ERROR, mysql.ER_DBACCESS_DENIED_ERROR, mysql.ER_ACCESS_DENIED_NO_PASSWORD_ERROR:
		fix = "check user and password, for the servers of reads_from too"
		if s.cfg.TLS == nil {
			fix += ", and tls if the account requires it"
		}
		return fix, true
	case mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR:
		return "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* to user " + account + ", which invalidator check names with its host", true
	case erAccountLocked:
		return "ALTER USER " + account + " ACCOUNT UNLOCK", true
	case mysql.ER_MUST_CHANGE_PASSWORD_LOGIN:
		return "ALTER USER " + account + " IDENTIFIED BY '...', with the password of the configuration", true
	case mysql.ER_USER_LIMIT_REACHED:
		return "ALTER USER " + account + " WITH MAX_USER_CONNECTIONS 0 MAX_CONNECTIONS_PER_HOUR 0 MAX_QUERIES_PER_HOUR 0", false
	case mysql.ER_TOO_MANY_USER_CONNECTIONS:
		return "ALTER USER " + account + " WITH MAX_USER_CONNECTIONS 20", false
	case mysql.ER_CON_COUNT_ERROR:
		return "raise max_connections, or end connections that nobody needs", false
	}
	return "", false
}

// quote makes a literal of text.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
