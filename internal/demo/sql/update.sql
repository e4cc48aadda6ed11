UPDATE users SET
    age     = 18 + (age + 1) % 70,
    email   = 'user' || id || '.' || (version + 1) || '@example.com',
    version = version + 1
WHERE id = ?1
RETURNING version;
