SELECT format('%s/%s', system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database())) FROM pg_control_system();
