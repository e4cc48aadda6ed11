package binlog

import (
	"crypto/tls"
	"errors"
	"fmt"

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

// explain adds the remedy to what MySQL refuses, and marks as fatal what only a
// person can change.
func (s *Source) explain(err error) error {
	if err == nil {
		return errStreamEnded
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return invalidation.Fatal(fmt.Errorf("source %q: check tls: %w", s.cfg.Name, err))
	}
	refused, ok := errors.AsType[*mysql.MyError](err)
	if !ok {
		return err
	}
	switch refused.Code {
	case mysql.ER_ACCESS_DENIED_ERROR, mysql.ER_DBACCESS_DENIED_ERROR, mysql.ER_ACCESS_DENIED_NO_PASSWORD_ERROR:
		return invalidation.Fatal(fmt.Errorf("source %q: mysql refuses the login: check user and password, for the servers of reads_from too (%w)", s.cfg.Name, err))
	case mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR:
		return invalidation.Fatal(fmt.Errorf("source %q: mysql user %q lacks a privilege: GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO that user (%w)", s.cfg.Name, s.cfg.User, err))
	}
	return err
}
