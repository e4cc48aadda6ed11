package binlog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// checkRights tries what each privilege is for: what the server grants through
// a role, or revokes in part, is hard to tell from a list.
func (s *Source) checkRights(srv *server) []invalidation.Finding {
	account := s.account(srv.control)
	return []invalidation.Finding{
		s.checkRight(srv.control, account, "REPLICATION SLAVE", "the log can not be read", "SHOW REPLICAS", "SHOW SLAVE HOSTS"),
		s.checkRight(srv.control, account, "REPLICATION CLIENT", "a replay by time, the lag in bytes, and the check of the log's filters and of replicas do not work", "SHOW BINARY LOGS"),
	}
}

func (s *Source) checkRight(conn *client.Conn, account, privilege, without string, spellings ...string) invalidation.Finding {
	_, err := queryAny(conn, spellings...)
	if err == nil || !isDenied(err) {
		return invalidation.Passed(privilege, "user "+s.cfg.User+" has "+privilege)
	}
	fix := fmt.Sprintf("GRANT %s ON *.* TO %s", privilege, account)
	if role := idleRole(conn); role != "" {
		fix += fmt.Sprintf("; or, where the role %s has it: SET DEFAULT ROLE ALL TO %s", role, account)
	}
	return invalidation.Fail.Of(privilege, fmt.Sprintf("user %s lacks %s: %s", s.cfg.User, privilege, without), fix)
}

// account returns who the server takes the user for, quoted for a GRANT.
func (s *Source) account(conn *client.Conn) string {
	row, err := queryRow(conn, "SELECT CURRENT_USER()")
	if err != nil {
		return quote(s.cfg.User) + "@'%'"
	}
	at := max(0, strings.LastIndex(row[0], "@"))
	return quote(row[0][:at]) + "@" + quote(strings.TrimPrefix(row[0][at:], "@"))
}

// idleRole returns a role that the user was granted and that is not active.
func idleRole(conn *client.Conn) string {
	row, err := queryRow(conn, "SELECT CURRENT_ROLE()")
	if err != nil {
		return ""
	}
	grants, err := queryRows(conn, "SHOW GRANTS")
	if err != nil {
		return ""
	}
	for _, grant := range grants {
		role, _, to := strings.Cut(strings.TrimPrefix(grant[0], "GRANT "), " TO ")
		if to && strings.HasPrefix(role, "`") && !strings.Contains(role, " ON ") && !strings.Contains(row[0], role) {
			return role
		}
	}
	return ""
}

// checkServerID looks for a replica with the id that Run reads with: the server
// ends the older of two.
func (s *Source) checkServerID(srv *server) []invalidation.Finding {
	replicas, err := queryAny(srv.control, "SHOW REPLICAS", "SHOW SLAVE HOSTS")
	if err != nil {
		return nil // the privilege is missing, which is said elsewhere
	}
	id := strconv.FormatUint(uint64(s.serverID), 10)
	for _, replica := range replicas {
		if len(replica) > 0 && replica[0] == id {
			return []invalidation.Finding{invalidation.Warn.Of("server id", "another replica of the server has the id "+id+", by accident: they would end each other's streams", "start again: the id is drawn anew")}
		}
	}
	return []invalidation.Finding{invalidation.Passed("server id", fmt.Sprintf("none of the server's %d replicas has the id %s, which this process reads with", len(replicas), id))}
}

// isDenied reports whether the server refused for want of a privilege.
func isDenied(err error) bool {
	refused, ok := errors.AsType[*mysql.MyError](err)
	if !ok {
		return false
	}
	switch refused.Code {
	case mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR, mysql.ER_DBACCESS_DENIED_ERROR, mysql.ER_TABLEACCESS_DENIED_ERROR:
		return true
	}
	return false
}

// queryAny runs the first of several spellings that the server knows.
func queryAny(conn *client.Conn, spellings ...string) (rows [][]string, err error) {
	for _, query := range spellings {
		rows, err = queryRows(conn, query)
		if refused, ok := errors.AsType[*mysql.MyError](err); !ok || refused.Code != mysql.ER_PARSE_ERROR {
			break
		}
	}
	return rows, err
}
