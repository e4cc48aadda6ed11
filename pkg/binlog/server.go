package binlog

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
)

const (
	dialTimeout = 5 * time.Second
	// heartbeatPeriod is how often an idle server speaks; a stream that is
	// silent for silence is taken for dead.
	heartbeatPeriod = time.Second
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
	var errs []error
	for _, addr := range s.cfg.Hosts {
		srv, err := s.connectTo(ctx, addr)
		if err == nil {
			return srv, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (s *Source) connectTo(ctx context.Context, addr string) (_ *server, err error) {
	srv := &server{addr: addr}
	defer func() {
		if err != nil {
			srv.close()
		}
	}()
	if srv.control, err = s.dial(ctx, addr, s.cfg.GateTimeout+silence); err != nil {
		return nil, err
	}
	if srv.stream, err = s.dial(ctx, addr, silence); err != nil {
		return nil, err
	}
	for _, other := range s.cfg.ReadsFrom {
		conn, err := s.dial(ctx, other, s.cfg.GateTimeout+silence)
		if err != nil {
			return nil, err
		}
		srv.others = append(srv.others, conn)
	}
	if srv.id, err = serverUUID(srv.control); err != nil {
		return nil, fmt.Errorf("mysql %s: %w", addr, err)
	}
	streamID, err := serverUUID(srv.stream)
	if err != nil {
		return nil, fmt.Errorf("mysql %s: %w", addr, err)
	}
	if streamID != srv.id {
		return nil, fmt.Errorf("mysql %s: two connections reached two servers (%s and %s): name one server, not a balancer", addr, srv.id, streamID)
	}
	return srv, nil
}

// dial connects; the connection is closed when ctx is done.
func (s *Source) dial(ctx context.Context, addr string, readTimeout time.Duration) (*client.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout}
	// What answers may not be MySQL, and say nothing.
	handshake, greeted := context.WithTimeout(ctx, dialTimeout)
	defer greeted()
	stop := func() bool { return true }
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
			c.ReadTimeout, c.WriteTimeout = readTimeout, silence
			if s.cfg.TLS != nil {
				c.SetTLSConfig(withServerName(s.cfg.TLS, addr))
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("mysql %s: connect: %w", addr, err)
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
	result, err := conn.Execute(query)
	if err != nil {
		return nil, err
	}
	defer result.Close()
	if result.RowNumber() == 0 {
		return nil, fmt.Errorf("%s: no row", query)
	}
	row := make([]string, result.ColumnNumber())
	for i := range row {
		if row[i], err = result.GetString(0, i); err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
	}
	return row, nil
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

// dump asks for every transaction that is not in done.
func (srv *server) dump(done *mysql.MysqlGTIDSet, serverID uint32) error {
	for _, set := range []string{
		// Old and new names of the same settings.
		"SET @source_binlog_checksum = @@global.binlog_checksum, @master_binlog_checksum = @@global.binlog_checksum",
		fmt.Sprintf("SET @source_heartbeat_period = %d, @master_heartbeat_period = %[1]d", heartbeatPeriod.Nanoseconds()),
	} {
		if _, err := srv.stream.Execute(set); err != nil {
			return fmt.Errorf("prepare the stream: %w", err)
		}
	}
	gtids := done.Encode()
	srv.stream.ResetSequence()
	packet := make([]byte, 4, 64+len(gtids)) // four bytes for the packet's header
	packet = append(packet, mysql.COM_BINLOG_DUMP_GTID)
	packet = binary.LittleEndian.AppendUint16(packet, 0) // flags
	packet = binary.LittleEndian.AppendUint32(packet, serverID)
	packet = binary.LittleEndian.AppendUint32(packet, 0) // no file name
	packet = binary.LittleEndian.AppendUint64(packet, 4)
	packet = binary.LittleEndian.AppendUint32(packet, uint32(len(gtids))) //nolint:gosec // a GTID set is far below 4 GiB
	packet = append(packet, gtids...)
	return srv.stream.WritePacket(packet)
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
