-- Periods: what is archived and dropped together. {transactions}, {events} and the like are the partitions of one
-- period, {lower} and {upper} its bounds. They are read and dropped by their own names, so that nobody who works on
-- another period waits for it.

-- name: alone
SELECT pg_try_advisory_lock($1);

-- name: not_alone
SELECT pg_advisory_unlock($1);

-- name: undisturbed
SELECT pg_advisory_lock_shared($1);

-- name: not_undisturbed
SELECT pg_advisory_unlock_shared($1);

-- What lies in the DEFAULT partition though its time is over: nobody made a partition while it was due.
-- name: stray
SELECT id FROM transactions_default WHERE id < $1 ORDER BY id LIMIT 1;

-- name: open
SELECT count(*) FROM {transactions} WHERE due_at IS NOT NULL;

-- name: follows
SELECT route FROM {transactions} WHERE (route = ANY ($1)) = $2 LIMIT 1;

-- A key whose payment came to nothing is free already, by what the payment says; now it is free by its own row, for the
-- payment is about to leave. Who finds by it goes on finding.
-- name: free_keys
WITH gone AS (
    DELETE FROM keys k USING {payments} p JOIN {transactions} t ON t.id = p.tx AND t.region = p.region
    WHERE k.tx >= {lower} AND k.tx < {upper} AND k.freed = '00000000-0000-0000-0000-000000000000' AND k.payment > 0
        AND k.region = (SELECT number FROM region)
        AND p.tx = k.tx AND p.ordinal = k.payment AND coalesce(p.status, t.status) IN ('RJCT', 'CANC')
    RETURNING k.client, k.kind, k.value, k.region, k.tx, k.payment
)
INSERT INTO keys (client, kind, value, freed, region, tx, payment)
SELECT client, kind, value, tx, region, tx, payment FROM gone ON CONFLICT DO NOTHING;

-- -- what the rows come to -------------------------------------------------------------------------------------------

-- name: transaction_marks
SELECT count(*), count(*) FILTER (WHERE state <> 'end'), coalesce(sum(version), 0)::text, coalesce(max(updated_at), 0)
FROM {transactions};

-- name: delivery_marks
SELECT state, count(*), sum(at)::text FROM {deliveries} GROUP BY state ORDER BY state COLLATE "C";

-- name: counts
SELECT (SELECT count(*) FROM {events}), (SELECT count(*) FROM {bodies}), (SELECT count(*) FROM {payments});

-- Where a number is not followed by the next one a run ends, and another begins.
-- name: runs
WITH marked AS (
    SELECT
        writer, journal, chain_seq, previous, hash,
        lag(chain_seq) OVER chain IS DISTINCT FROM chain_seq - 1 AS begins,
        lead(chain_seq) OVER chain IS DISTINCT FROM chain_seq + 1 AS ends
    FROM {events} WINDOW chain AS (PARTITION BY writer, journal ORDER BY chain_seq)
), edges AS (
    SELECT
        writer, journal, chain_seq AS first_seq, begins, previous,
        CASE WHEN ends THEN chain_seq ELSE lead(chain_seq) OVER chain END AS last_seq,
        CASE WHEN ends THEN hash ELSE lead(hash) OVER chain END AS hash
    FROM marked WHERE begins OR ends WINDOW chain AS (PARTITION BY writer, journal ORDER BY chain_seq)
)
SELECT writer, journal, first_seq, last_seq, previous, hash FROM edges WHERE begins
ORDER BY writer, journal, first_seq

-- name: gaps_of
SELECT writer, journal, first_seq, last_seq, previous, hash FROM gaps WHERE archive = {archive}
ORDER BY writer, journal, first_seq

-- -- going -----------------------------------------------------------------------------------------------------------

-- The one that the rows came back from stands for them again, or another one of its name does. One whose rows are
-- nowhere else is never replaced.
-- name: insert_archive
INSERT INTO archives AS a (name, lower, upper, digest, fingerprint, archived_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name) DO UPDATE SET
    digest = excluded.digest, fingerprint = excluded.fingerprint, archived_at = excluded.archived_at, restored_at = NULL
WHERE a.restored_at IS NOT NULL AND a.lower = excluded.lower AND a.upper = excluded.upper;

-- Rows that came back, were changed and are archived anew: the former archive stands for nothing any more.
-- name: delete_former
DELETE FROM archives WHERE lower = $1 AND upper = $2 AND restored_at IS NOT NULL;

-- Keys that only find have nothing to find any more.
-- name: delete_names
DELETE FROM keys WHERE tx >= $1 AND tx < $2 AND freed <> '00000000-0000-0000-0000-000000000000';

-- name: delete_idempotency
DELETE FROM idempotency WHERE tx >= $1 AND tx < $2;

-- Nobody writes from here on; who reads goes on.
-- name: hold
LOCK TABLE ONLY {transactions}, ONLY {events}, ONLY {bodies}, ONLY {payments}, ONLY {deliveries} IN EXCLUSIVE MODE;

-- In the order in which everybody else takes them.
-- name: drop
DROP TABLE {transactions}, {events}, {bodies}, {payments}, {deliveries};

-- -- coming back -----------------------------------------------------------------------------------------------------

-- name: columns
SELECT attname, atttypid, attnotnull AND NOT atthasdef FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum;

-- What is still reserved by the same transaction finds it; all else comes back as names, which refuse nothing.
-- name: restore_keys
INSERT INTO keys (client, kind, value, freed, region, tx, payment)
SELECT client, kind, value, tx, region, tx, payment
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::uuid[], $6::integer[])
    AS u (client, kind, value, region, tx, payment)
WHERE u.region = (SELECT number FROM region) AND NOT EXISTS (
    SELECT 1 FROM keys k
    WHERE k.client = u.client AND k.kind = u.kind AND k.value = u.value
        AND k.freed = '00000000-0000-0000-0000-000000000000' AND k.region = u.region AND k.tx = u.tx
)
ON CONFLICT DO NOTHING;

-- A client that has used a key again since has it.
-- name: restore_idempotency
INSERT INTO idempotency (client, key, region, digest, tx)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::bytea[], $5::uuid[])
    AS u (client, key, region, digest, tx)
WHERE region = (SELECT number FROM region)
ON CONFLICT DO NOTHING;

-- name: delete_gaps
DELETE FROM gaps WHERE archive = $1;

-- name: note_restored
UPDATE archives SET restored_at = $2 WHERE name = $1 AND restored_at IS NULL;

-- -- archives and keys -----------------------------------------------------------------------------------------------

-- name: archives
SELECT name, lower, upper, digest, fingerprint, archived_at, restored_at FROM archives ORDER BY lower, archived_at;

-- name: forgettable
SELECT name, lower, upper FROM archives
WHERE upper <= $1 AND restored_at IS NULL AND forgotten_at IS NULL ORDER BY lower;

-- Some at a time: who wants one of them again must not wait long.
-- name: forget_keys
DELETE FROM keys WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM keys WHERE tx >= $1 AND tx < $2 AND freed = '00000000-0000-0000-0000-000000000000' LIMIT $3
));

-- name: note_forgotten
UPDATE archives SET forgotten_at = $2 WHERE name = $1;
