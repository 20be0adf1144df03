-- Nothing: a check of PostgreSQL's costs the same however it is written.
SELECT 1;
