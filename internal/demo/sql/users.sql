CREATE TABLE users (
    id      INTEGER PRIMARY KEY,
    name    TEXT    NOT NULL,
    age     INTEGER NOT NULL,
    email   TEXT    NOT NULL,
    version INTEGER NOT NULL DEFAULT 1 -- counts the changes of the row, to tell an old value from a new one
);
