SELECT id, name, age, email, version FROM users WHERE id IN (SELECT value FROM json_each(?1));
