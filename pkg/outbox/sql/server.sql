SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS recovery;
