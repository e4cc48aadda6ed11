package binlog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// settings are a server's version and global variables.
type settings struct {
	version string
	of      map[string]string
}

// variables are those that judge looks at. A server may lack some: plugins
// bring them, and versions drop them.
const variables = "'log_bin','server_id','gtid_mode','enforce_gtid_consistency','binlog_format','binlog_row_metadata','binlog_row_image'," +
	"'binlog_row_value_options','sync_binlog','innodb_flush_log_at_trx_commit','log_replica_updates','log_slave_updates'," +
	"'binlog_expire_logs_seconds','binlog_expire_logs_auto_purge','binlog_encryption','binlog_transaction_compression'," +
	"'innodb_native_foreign_keys','rpl_semi_sync_source_enabled','rpl_semi_sync_source_wait_point','rpl_semi_sync_source_timeout'," +
	"'rpl_semi_sync_master_enabled','rpl_semi_sync_master_wait_point','rpl_semi_sync_master_timeout'"

func readSettings(conn *client.Conn) (settings, error) {
	row, err := queryRow(conn, "SELECT VERSION()")
	if err != nil {
		return settings{}, fmt.Errorf("read the version: %w", err)
	}
	rows, err := queryRows(conn, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ("+variables+")")
	if err != nil {
		return settings{}, fmt.Errorf("read the settings: %w", err)
	}
	s := settings{version: row[0], of: map[string]string{}}
	for _, row := range rows {
		s.of[row[0]] = row[1]
	}
	return s, nil
}

func (v settings) mariaDB() bool { return strings.Contains(v.version, "MariaDB") }
func (v settings) tooOld() bool  { return v.mariaDB() || !v.atLeast(8, 0, 1) }

// atLeast compares the version, such as 8.0.36-28.
func (v settings) atLeast(want ...int) bool {
	number, _, _ := strings.Cut(v.version, "-")
	parts := strings.Split(number, ".")
	for i, w := range want {
		if i >= len(parts) {
			return false
		}
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < w {
			return false
		}
		if n > w {
			return true
		}
	}
	return true
}

// get returns the value of the first name that the server has, or otherwise.
func (v settings) get(otherwise string, names ...string) string {
	for _, name := range names {
		if value, has := v.of[name]; has {
			return value
		}
	}
	return otherwise
}

func (v settings) is(name, otherwise string) string { return name + " = " + v.get(otherwise, name) }

// expires is how long the log is kept; 0 for ever.
func (v settings) expires() time.Duration {
	seconds, err := strconv.ParseInt(v.get("0", "binlog_expire_logs_seconds"), 10, 64)
	if err != nil || v.get("ON", "binlog_expire_logs_auto_purge") == "OFF" {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// judge returns a Finding for each setting.
func (s *Source) judge(v settings) []invalidation.Finding {
	version := invalidation.Passed("version", "MySQL "+v.version)
	switch {
	case v.mariaDB():
		return []invalidation.Finding{invalidation.Fail.Of("version", "the server is MariaDB "+v.version+", which this version does not read", "use the outbox, or MySQL")}
	case v.tooOld():
		return []invalidation.Finding{invalidation.Fail.Of("version", "the server is MySQL "+v.version+", whose log names no columns", "upgrade it to MySQL 8.0 or later")}
	}
	return append(append([]invalidation.Finding{version}, judgeLog(v)...), append(judgeDurability(v), s.judgeTimes(v)...)...)
}

// judgeLog looks at what makes the log readable.
func judgeLog(v settings) []invalidation.Finding {
	if v.get("OFF", "log_bin") != "ON" {
		return []invalidation.Finding{invalidation.Fail.Of("log_bin", "the server writes no binlog", "start it with --log-bin")}
	}
	found := []invalidation.Finding{
		invalidation.Passed("log_bin", "log_bin = ON"),
		invalidation.Fail.Unless(v.get("0", "server_id") != "0", "server_id", v.is("server_id", "0"), "with that the server sends its log to nobody", "SET PERSIST server_id = 1"),
		invalidation.Fail.Unless(v.get("OFF", "gtid_mode") == "ON", "gtid_mode", v.is("gtid_mode", "OFF"), "positions and the wait for visibility need GTIDs", v.turnGTIDsOn()),
		invalidation.Fail.Unless(v.get("OFF", "enforce_gtid_consistency") == "ON", "enforce_gtid_consistency", v.is("enforce_gtid_consistency", "OFF"), "gtid_mode = ON needs it",
			"SET PERSIST enforce_gtid_consistency = ON"),
		invalidation.Fail.Unless(v.get("ROW", "binlog_format") == "ROW", "binlog_format", v.is("binlog_format", "ROW"), "the log has no rows to read",
			"SET PERSIST binlog_format = ROW, and let the applications reconnect"),
		invalidation.Fail.Unless(v.get("MINIMAL", "binlog_row_metadata") == "FULL", "binlog_row_metadata", v.is("binlog_row_metadata", "MINIMAL"), "the log names no columns",
			"SET PERSIST binlog_row_metadata = FULL"),
		invalidation.Warn.Unless(v.get("FULL", "binlog_row_image") != "MINIMAL", "binlog_row_image", v.is("binlog_row_image", "FULL"), "changes whose image lacks a column of a key purge by pattern",
			"SET PERSIST binlog_row_image = FULL"),
	}
	if v.get("", "binlog_row_value_options") == "PARTIAL_JSON" {
		found = append(found, invalidation.Warn.Of("binlog_row_value_options", "binlog_row_value_options = PARTIAL_JSON: an update of a JSON column that is part of a key purges by pattern; other keys are exact",
			"SET PERSIST binlog_row_value_options = ''"))
	} else {
		found = append(found, invalidation.Passed("binlog_row_value_options", "whole JSON documents are logged"))
	}
	return append(found,
		invalidation.Warn.Unless(v.get("ON", "log_replica_updates", "log_slave_updates") == "ON", "log_replica_updates", "log_replica_updates = "+v.get("ON", "log_replica_updates", "log_slave_updates"),
			"where this server is a replica, what it replicates is not in its log and deletes nothing", "start it with --log-replica-updates=ON, or read its source"),
		invalidation.Passed("binlog_transaction_compression", v.is("binlog_transaction_compression", "OFF")+": either is read"),
		invalidation.Passed("binlog_encryption", v.is("binlog_encryption", "OFF")+": the server decrypts what it sends"))
}

// turnGTIDsOn returns the statements that are missing, in their order: the
// server takes one step at a time.
func (v settings) turnGTIDsOn() string {
	var steps []string
	if v.get("OFF", "enforce_gtid_consistency") != "ON" {
		steps = append(steps, "SET PERSIST enforce_gtid_consistency = ON")
	}
	modes := []string{"OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"}
	for _, mode := range modes[1+slices.Index(modes, v.get("OFF", "gtid_mode")):] {
		steps = append(steps, "SET PERSIST gtid_mode = "+mode)
	}
	return strings.Join(steps, "; ")
}

// judgeDurability looks at what a crash of the machine leaves.
func judgeDurability(v settings) []invalidation.Finding {
	const risk = "after a crash of the machine the server may have lost transactions whose keys are deleted, and may give their GTIDs out again, which nothing can tell"
	return []invalidation.Finding{
		invalidation.Warn.Unless(v.get("1", "sync_binlog") == "1", "sync_binlog", v.is("sync_binlog", "1"), risk, "SET PERSIST sync_binlog = 1"),
		invalidation.Warn.Unless(v.get("1", "innodb_flush_log_at_trx_commit") == "1", "innodb_flush_log_at_trx_commit", v.is("innodb_flush_log_at_trx_commit", "1"), risk,
			"SET PERSIST innodb_flush_log_at_trx_commit = 1"),
	}
}

const (
	// shortRetention is how long a daemon may well be away: over a night.
	shortRetention = 24 * time.Hour
	// goodRetention is the least that is proposed.
	goodRetention = 7 * 24 * time.Hour
)

// judgeTimes looks at how long the log is kept, and how long a commit may take
// to become visible behind its event.
func (s *Source) judgeTimes(v settings) []invalidation.Finding {
	kept := v.expires()
	is := fmt.Sprintf("the log is kept for %s", kept)
	if kept == 0 {
		is = "the log is never purged by age"
	}
	found := []invalidation.Finding{invalidation.Warn.Unless(kept == 0 || kept >= shortRetention, "binlog_expire_logs_seconds", is,
		"a daemon that is away for longer loses its position, which purges the cache", fmt.Sprintf("SET PERSIST binlog_expire_logs_seconds = %d", int64(goodRetention.Seconds())))}
	enabled := v.get("OFF", "rpl_semi_sync_source_enabled", "rpl_semi_sync_master_enabled")
	point := v.get("AFTER_SYNC", "rpl_semi_sync_source_wait_point", "rpl_semi_sync_master_wait_point")
	if enabled != "ON" || point != "AFTER_SYNC" {
		return append(found, invalidation.Passed("semi-sync", "commits do not wait for a replica behind their event"))
	}
	text := v.get("10000", "rpl_semi_sync_source_timeout", "rpl_semi_sync_master_timeout")
	millis, _ := strconv.ParseInt(text, 10, 64) // the server has made a number of it
	wait := time.Duration(millis) * time.Millisecond
	is = fmt.Sprintf("rpl_semi_sync_source_wait_point = AFTER_SYNC: a commit is visible once a replica acknowledged it, and so long its keys are not deleted; at most %s", wait)
	return append(found, invalidation.Warn.Unless(wait < s.cfg.GateTimeout, "semi-sync", is,
		fmt.Sprintf("that is longer than a delete waits before it reconnects (%s), so a slow replica looks like a stalled server", s.cfg.GateTimeout),
		fmt.Sprintf("SET PERSIST rpl_semi_sync_source_timeout = %d", s.cfg.GateTimeout.Milliseconds()/2)))
}
