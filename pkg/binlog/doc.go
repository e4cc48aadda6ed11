// Package binlog is the Source for MySQL: it reads the row events of the
// binary log by GTID, maps them to keys, and gives them to a Sink.
//
// An event reaches its reader before other connections can see the commit. A
// delete in that window would let a reader load the old row and fill it
// legally, so no batch is deleted before WAIT_FOR_EXECUTED_GTID_SET said, on a
// second connection to the same server, that its transactions are visible.
//
// The server needs gtid_mode = ON, binlog_format = ROW and
// binlog_row_metadata = FULL; the user needs REPLICATION SLAVE and
// REPLICATION CLIENT.
package binlog
