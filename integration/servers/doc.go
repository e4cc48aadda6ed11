// Package servers runs the real MySQL, Postgres, Redis and Valkey that the integration tests talk to.
//
// [MySQL], [Postgres], [Redis], [Redis7] and [Valkey] return the server of its kind that all tests of this process share; it starts
// when the first test asks for it. A test keeps to a database or key prefix of its own there:
//
//	func TestOutboxSurvivesARestart(t *testing.T) {
//		t.Parallel()
//		name, dsn := servers.Postgres(t).Database(t)
//		rdb := servers.Redis(t).Client(t)
//		prefix := servers.Prefix(t)
//		…
//	}
//
// A test that kills, pauses or reconfigures a server takes one of its own, from [NewMySQL], [NewPostgres], [NewRedis] and so on. It
// keeps its address for life, so that clients find it again:
//
//	db := servers.NewMySQL(t, "--binlog-expire-logs-seconds=1")
//	db.Kill(t)
//	db.Start(t) // returns when it answers again
//
// [NewSentinel] and [NewCluster] start whole topologies, of which single nodes can be killed, frozen and cut off:
//
//	cluster := servers.NewCluster(t)
//	master := cluster.Masters(t)[0]
//	replicas := cluster.Replicas(t, master)
//	master.LoseReplication(t) // from here on it answers writes that are lost
//	master.Kill(t)
//	promoted, at := servers.Promoted(t, replicas...)
//
// [NewRedisTLS], and options of the others, make servers that speak TLS.
//
// The images are the official ones, or what INVALIDATOR_TEST_MYSQL_IMAGE, INVALIDATOR_TEST_POSTGRES_IMAGE,
// INVALIDATOR_TEST_REDIS_IMAGE, INVALIDATOR_TEST_REDIS7_IMAGE and INVALIDATOR_TEST_VALKEY_IMAGE name; integration/images/ensure
// finds or builds some where none can be pulled. A package that uses servers calls [Main] from its TestMain. All functions are safe
// for concurrent use.
package servers
