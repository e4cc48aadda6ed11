-- The database whose outbox the daemon relays, and the daemon's account. `invalidator migrate up` adds the outbox itself.
\getenv relay_password RELAY_PASSWORD
CREATE ROLE relay LOGIN PASSWORD :'relay_password';
CREATE DATABASE orders OWNER relay;

\connect orders
SET ROLE relay;
CREATE TABLE orders (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status text NOT NULL DEFAULT 'new'
);
