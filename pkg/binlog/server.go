package binlog

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
)

const (
	dialTimeout = 5 * time.Second
	// heartbeatPeriod is how often an idle server speaks; a stream that is
	// silent for silence is taken for dead.
	heartbeatPeriod = 500 * time.Millisecond
	silence         = 10 * time.Second
)

// server holds the connections to one MySQL server.
type server struct {
	addr    string
	id      string // server_uuid, the same on every connection
	stream  *client.Conn
	control *client.Conn   // settings, then the gate
	others  []*client.Conn // gates of the servers in ReadsFrom
	once    sync.Once
}

// connect opens the stream and the control connection to the first host that
// answers, and makes sure that they reached the same server.
func (s *Source) connect(ctx context.Context) (*server, error) {
	srv, err := s.visit(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.connectStream(ctx, srv); err != nil {
		srv.close()
		return nil, err
	}
	return srv, nil
}

// visit opens the control connection to the first host that answers, and those
// to the servers of ReadsFrom.
func (s *Source) visit(ctx context.Context) (*server, error) {
	srv, err := s.call(ctx)
	if err != nil {
		return nil, err
	}
	for _, other := range s.cfg.ReadsFrom {
		conn, err := s.dial(ctx, other, s.cfg.GateTimeout+silence)
		if err != nil {
			srv.close()
			return nil, err
		}
		srv.others = append(srv.others, conn)
	}
	return srv, nil
}

// call opens the control connection to the first host that answers.
func (s *Source) call(ctx context.Context) (*server, error) {
	var errs lineError
	for _, addr := range s.cfg.Hosts {
		srv := &server{addr: addr}
		conn, err := s.dial(ctx, addr, s.cfg.GateTimeout+silence)
		if err == nil {
			srv.control = conn
			if srv.id, err = serverUUID(conn); err == nil {
				return srv, nil
			}
			srv.close()
			err = fmt.Errorf("mysql %s: %w", addr, err)
		}
		errs = append(errs, err)
	}
	return nil, errs
}

func (s *Source) connectStream(ctx context.Context, srv *server) error {
	conn, err := s.dial(ctx, srv.addr, silence)
	if err != nil {
		return err
	}
	srv.stream = conn
	id, err := serverUUID(conn)
	if err != nil {
		return fmt.Errorf("mysql %s: %w", srv.addr, err)
	}
	if id != srv.id {
		return fmt.Errorf("mysql %s: two connections reached two servers (%s and %s): name one server, not a balancer", srv.addr, srv.id, id)
	}
	return nil
}

// dial connects; the connection is closed when ctx is done.
func (s *Source) dial(ctx context.Context, addr string, readTimeout time.Duration) (*client.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	// What answers may not be MySQL, and say nothing.
	handshake, greeted := context.WithTimeout(ctx, dialTimeout)
	defer greeted()
	stop := func() bool { return true }
	var opened *client.Conn
	conn, err := client.ConnectWithDialer(handshake, "tcp", addr, s.cfg.User, s.cfg.Password, "",
		func(handshake context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(handshake, network, address)
			if err != nil {
				return nil, err
			}
			stop = context.AfterFunc(handshake, func() { _ = c.Close() })
			context.AfterFunc(ctx, func() { _ = c.Close() })
			return c, nil
		},
		func(c *client.Conn) error {
			opened, c.ReadTimeout, c.WriteTimeout = c, readTimeout, silence
			if s.cfg.TLS != nil {
				c.SetTLSConfig(withServerName(s.cfg.TLS, addr))
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("mysql %s: connect: %w", addr, handshakeError(handshake, opened, err))
	}
	if !stop() {
		return nil, fmt.Errorf("mysql %s: connect: no greeting within %s", addr, dialTimeout)
	}
	// A source may be idle for longer than the server's patience.
	if _, err := conn.Execute("SET SESSION wait_timeout = 31536000"); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("mysql %s: prepare the session: %w", addr, err)
	}
	return conn, nil
}

// handshakeError tells a server that refuses from what is no MySQL server, or
// none that speaks TLS. opened is nil where nothing listened.
func handshakeError(ctx context.Context, opened *client.Conn, err error) error {
	_, refused := errors.AsType[*mysql.MyError](err)
	switch {
	case opened == nil || refused:
		return err
	case strings.Contains(err.Error(), "does not support TLS"): // the library has no type for it
		return errNoTLS
	case opened.GetServerVersion() != "": // it greeted
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: no greeting within %s", errNoMySQL, dialTimeout)
	}
	return fmt.Errorf("%w: %w", errNoMySQL, err)
}

func withServerName(cfg *tls.Config, addr string) *tls.Config {
	if cfg.ServerName != "" || cfg.InsecureSkipVerify {
		return cfg
	}
	named := cfg.Clone()
	named.ServerName, _, _ = net.SplitHostPort(addr)
	return named
}

func serverUUID(conn *client.Conn) (string, error) {
	row, err := queryRow(conn, "SELECT @@server_uuid")
	if err != nil {
		return "", fmt.Errorf("read server_uuid: %w", err)
	}
	return row[0], nil
}

// queryRow returns the first row of a query as text; NULL is "".
func queryRow(conn *client.Conn, query string) ([]string, error) {
	rows, err := queryRows(conn, query)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: no row", query)
	}
	return rows[0], nil
}

// queryRows returns the rows of a query as text; NULL is "".
func queryRows(conn *client.Conn, query string) ([][]string, error) {
	result, err := conn.Execute(query)
	if err != nil {
		return nil, err
	}
	defer result.Close()
	if result.Resultset == nil {
		return nil, nil
	}
	rows := make([][]string, result.RowNumber())
	for i := range rows {
		rows[i] = make([]string, result.ColumnNumber())
		for k := range rows[i] {
			text, err := result.GetString(i, k)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", query, err)
			}
			rows[i][k] = strings.Clone(text) // it lies in a buffer that Close gives away
		}
	}
	return rows, nil
}

// close closes every connection. It may be called more than once, also while
// another goroutine reads.
func (srv *server) close() {
	srv.once.Do(func() {
		for _, conn := range append([]*client.Conn{srv.stream, srv.control}, srv.others...) {
			if conn != nil {
				_ = conn.Close()
			}
		}
	})
}

// What a request for the log does at its end.
const (
	dumpWaits = 0 // for more
	dumpEnds  = 1
)

// dump asks for every transaction that is not in done.
func (srv *server) dump(done *mysql.MysqlGTIDSet, serverID uint32, atEnd uint16) error {
	if err := prepareDump(srv.stream); err != nil {
		return err
	}
	gtids := done.Encode()
	packet := make([]byte, 4, 64+len(gtids)) // four bytes for the packet's header
	packet = append(packet, mysql.COM_BINLOG_DUMP_GTID)
	packet = binary.LittleEndian.AppendUint16(packet, atEnd)
	packet = binary.LittleEndian.AppendUint32(packet, serverID)
	packet = binary.LittleEndian.AppendUint32(packet, 0) // no file name
	packet = binary.LittleEndian.AppendUint64(packet, 4)
	packet = binary.LittleEndian.AppendUint32(packet, uint32(len(gtids))) //nolint:gosec // a GTID set is far below 4 GiB
	packet = append(packet, gtids...)
	return srv.stream.WritePacket(packet)
}

// dumpFile asks for one file of the log and those behind it.
func dumpFile(stream *client.Conn, file string, serverID uint32) error {
	if err := prepareDump(stream); err != nil {
		return err
	}
	packet := make([]byte, 4, 64+len(file))
	packet = append(packet, mysql.COM_BINLOG_DUMP)
	packet = binary.LittleEndian.AppendUint32(packet, 4) // behind the file's magic number
	packet = binary.LittleEndian.AppendUint16(packet, dumpEnds)
	packet = binary.LittleEndian.AppendUint32(packet, serverID)
	packet = append(packet, file...)
	return stream.WritePacket(packet)
}

// prepareDump sets what the server wants to know before a dump.
func prepareDump(stream *client.Conn) error {
	for _, set := range []string{
		// Old and new names of the same settings.
		"SET @source_binlog_checksum = @@global.binlog_checksum, @master_binlog_checksum = @@global.binlog_checksum",
		fmt.Sprintf("SET @source_heartbeat_period = %d, @master_heartbeat_period = %[1]d", heartbeatPeriod.Nanoseconds()),
	} {
		if _, err := stream.Execute(set); err != nil {
			return fmt.Errorf("prepare the stream: %w", err)
		}
	}
	stream.ResetSequence()
	return nil
}

// nextEvent reads one event's bytes from a stream that dumps.
func nextEvent(stream *client.Conn) ([]byte, error) {
	packet, err := stream.ReadPacket()
	if err != nil {
		return nil, fmt.Errorf("read the binlog: %w", err)
	}
	switch packet[0] {
	case mysql.OK_HEADER:
		return packet[1:], nil
	case mysql.ERR_HEADER:
		return nil, fmt.Errorf("read the binlog: %w", stream.HandleErrorPacket(packet))
	case mysql.EOF_HEADER:
		return nil, fmt.Errorf("read the binlog: the server ended the stream: %w", io.EOF)
	}
	return nil, fmt.Errorf("read the binlog: unexpected packet 0x%02x", packet[0])
}
