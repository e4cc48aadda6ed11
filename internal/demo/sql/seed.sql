INSERT INTO users (id, name, age, email)
WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < ?1)
SELECT id, 'User ' || id, 18 + id % 70, 'user' || id || '.1@example.com' FROM n;
