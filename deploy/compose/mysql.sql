-- A sample schema, and what the daemon's account needs to read the binlog. The account comes from MYSQL_USER and MYSQL_PASSWORD.
CREATE DATABASE shop;

CREATE TABLE shop.users (
    id    BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name  VARCHAR(100) NOT NULL,
    email VARCHAR(200) NOT NULL UNIQUE
);

INSERT INTO shop.users (name, email) VALUES ('Ada', 'ada@example.com'), ('Grace', 'grace@example.com');

GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO repl;
