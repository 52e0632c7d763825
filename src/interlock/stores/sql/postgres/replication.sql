-- Replication between regions, by PostgreSQL's own means. Names of publications, subscriptions and slots are arguments.

-- -- what is published -----------------------------------------------------------------------------------------------

-- name: publications
SELECT pubname::text, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, puballtables FROM pg_publication
WHERE pubname = ANY ($1::name[]);

-- No list of columns means all of them, also those that a peer does not have yet.
-- name: published
SELECT p.pubname::text, c.relname::text, pg_get_expr(r.prqual, r.prrelid), CASE WHEN r.prattrs IS NOT NULL THEN ARRAY(
    SELECT a.attname::text FROM pg_attribute a
    WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs) ORDER BY a.attnum
) END
FROM pg_publication_rel r
JOIN pg_publication p ON p.oid = r.prpubid
JOIN pg_class c ON c.oid = r.prrelid
WHERE p.pubname = ANY ($1::name[]);

-- name: columns
SELECT c.relname::text, array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid = ANY (ARRAY(SELECT to_regclass(name) FROM unnest($1::text[]) AS u (name)))
GROUP BY c.oid, c.relname;

-- -- guards ----------------------------------------------------------------------------------------------------------

-- Whoever applies a peer's changes is not asked: such triggers fire in ordinary sessions only.
-- name: make_refusal
CREATE OR REPLACE FUNCTION interlock_refuse_foreign_row() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'integrity_constraint_violation',
        MESSAGE = format('this row of %s belongs to another region, which alone may write it', TG_TABLE_NAME);
END
$function$;

-- name: guards
SELECT c.relname::text, t.tgname::text, t.tgenabled::text
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgrelid = ANY (ARRAY(SELECT to_regclass(name) FROM unnest($1::text[]) AS u (name))) AND NOT t.tgisinternal
    AND t.tgname = ANY ($2::name[]);

-- -- subscriptions ---------------------------------------------------------------------------------------------------

-- name: subscription
SELECT s.oid, s.subenabled, s.subbinary, left(s.substream::text, 1) <> 'f', s.subsynccommit, s.subdisableonerr,
    s.subslotname::text, s.subpublications
FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE s.subname = $1 AND d.datname = current_database();

-- name: subscribed
SELECT s.subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE s.subname LIKE 'interlock\_from\_%' AND d.datname = current_database() ORDER BY 1;

-- Whoever applies or copies for a subscription; and of those seen before, who is still there.
-- name: workers
SELECT pid FROM pg_stat_subscription WHERE subid = $1 AND pid IS NOT NULL
UNION
SELECT pid FROM pg_stat_activity WHERE pid = ANY ($2);

-- name: table_states
SELECT c.relname::text, r.srsubstate::text FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid
WHERE r.srsubid = $1 ORDER BY 1;

-- name: inbound
SELECT w.pid, (w.received_lsn - '0/0'::pg_lsn)::bigint, (w.latest_end_lsn - '0/0'::pg_lsn)::bigint,
    extract(epoch FROM clock_timestamp() - w.latest_end_time)::double precision, e.apply_error_count, e.sync_error_count
FROM pg_subscription s
LEFT JOIN LATERAL (SELECT * FROM pg_stat_subscription WHERE subid = s.oid AND relid IS NULL LIMIT 1) w ON true
LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid
WHERE s.oid = $1;

-- -- slots -----------------------------------------------------------------------------------------------------------

-- How far each peer has our changes on its disk. By its slot: that is of its main worker alone, where workers that copy
-- tables call themselves the same, it outlives a lost connection, and it can be read without special rights.
-- name: flushed
SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint, s.slot_name::text,
    (s.confirmed_flush_lsn - '0/0'::pg_lsn)::bigint
FROM (SELECT) one LEFT JOIN pg_replication_slots s
    ON s.slot_type = 'logical' AND s.database = current_database() AND s.slot_name LIKE $1;

-- name: slot
SELECT s.active_pid, (s.confirmed_flush_lsn - '0/0'::pg_lsn)::bigint, s.wal_status, s.safe_wal_size,
    (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint,
    extract(epoch FROM r.flush_lag)::double precision
FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
WHERE s.slot_name = $1 AND s.slot_type = 'logical' AND s.database = current_database();

-- name: end_sender
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL;

-- name: make_slot
SELECT pg_create_logical_replication_slot($1, 'pgoutput');

-- name: drop_slot
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
WHERE slot_name = $1 AND active_pid IS NULL AND database = current_database();

-- Those that a subscription's copying has left behind bear its number.
-- name: drop_copying_slots
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
WHERE slot_name LIKE $1 AND active_pid IS NULL AND database = current_database();

-- -- the post --------------------------------------------------------------------------------------------------------

-- name: raise_post
UPDATE region SET epoch = $1, guards = $2::integer[], fenced = $3 WHERE epoch < $1;

-- -- takeovers -------------------------------------------------------------------------------------------------------

-- name: begin_takeover
INSERT INTO takeovers (home, generation, region, begun_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;

-- name: note_cut
UPDATE takeovers SET cut_at = $4 WHERE home = $1 AND generation = $2 AND region = $3 AND cut_at IS NULL;

-- name: complete_takeover
UPDATE takeovers SET completed_at = $4, transactions = $5
WHERE home = $1 AND generation = $2 AND region = $3 AND completed_at IS NULL;

-- name: note_returned
UPDATE takeovers SET returned_at = $4
WHERE home = $1 AND generation = $2 AND region = $3 AND completed_at IS NOT NULL AND returned_at IS NULL;

-- name: takeovers
SELECT home, generation, region, begun_at, cut_at, completed_at, returned_at, transactions FROM takeovers
ORDER BY generation, home, region;

-- name: informed
SELECT 1 FROM takeovers
WHERE home = $1 AND generation = $2 AND completed_at IS NOT NULL AND returned_at IS NOT NULL;

-- Whatever has no end has a clock that runs: the small index of those. A clock of a row that is another region's now
-- must not fire, nobody has it in hand, and whoever still thinks so has another version.
-- name: leave_superseded
WITH open AS MATERIALIZED (
    SELECT id, epoch FROM transactions WHERE due_at IS NOT NULL AND region = $1
), left_ AS (
    SELECT id FROM open WHERE EXISTS (
        SELECT 1 FROM transactions o WHERE o.id = open.id AND o.region <> $1 AND o.epoch > open.epoch
    ) ORDER BY id LIMIT $2
)
UPDATE transactions t SET due_at = NULL, claim = 0, version = version + 1 FROM left_ WHERE t.id = left_.id AND t.region = $1;

-- Not those that somebody has taken over before.
-- name: in_flight_of
WITH open AS MATERIALIZED (
    SELECT id, epoch FROM transactions WHERE due_at IS NOT NULL AND region = $1 AND epoch < $2 AND id > $3
)
SELECT id FROM open WHERE NOT EXISTS (
    SELECT 1 FROM transactions o WHERE o.id = open.id AND o.region <> $1 AND o.epoch > open.epoch
) ORDER BY id LIMIT $4;

-- -- copies of a peer's rows -----------------------------------------------------------------------------------------

-- The tables that rows lie in: partitions, or the table itself; and how many pages each has.
-- name: leaves
SELECT relname::text, pg_relation_size(oid) / current_setting('block_size')::bigint FROM pg_class
WHERE relkind = 'r' AND oid IN (SELECT to_regclass($1) UNION SELECT relid FROM pg_partition_tree(to_regclass($1)))
ORDER BY 1;

-- -- what can be wrong -----------------------------------------------------------------------------------------------

-- name: settings
SELECT name::text, setting FROM pg_settings WHERE name = ANY ($1);

-- name: without_default
SELECT relname::text FROM pg_class
WHERE oid = ANY (ARRAY(SELECT to_regclass(name) FROM unnest($1::text[]) AS u (name))) AND NOT EXISTS (
    SELECT 1 FROM pg_partitioned_table t WHERE t.partrelid = pg_class.oid AND t.partdefid <> 0
) ORDER BY 1;

-- Updates of a published table need its key in the log, which is what `d` says; partitions have their own.
-- name: odd_identities
SELECT c.relname::text FROM unnest($1::text[]) AS u (name) CROSS JOIN LATERAL (
    SELECT to_regclass(u.name) AS relid UNION SELECT relid FROM pg_partition_tree(to_regclass(u.name))
) p JOIN pg_class c ON c.oid = p.relid WHERE c.relreplident <> 'd' ORDER BY 1;

-- Slots that anybody has, and those that we would still make.
-- name: slots_used
SELECT count(*) FROM pg_replication_slots;

-- -- ends that contradict each other -------------------------------------------------------------------------------

-- Journals of a region's that anything has come from, by hops along the index, and how far each was looked at. The range
-- of ids leaves few partitions to look in.
-- name: journals_of
WITH RECURSIVE hop AS (
    (
        SELECT writer, journal FROM events WHERE writer >= $1 AND writer < $2 AND tx >= $3
        ORDER BY writer, journal, chain_seq LIMIT 1
    )
    UNION ALL
    SELECT n.writer, n.journal FROM hop CROSS JOIN LATERAL (
        SELECT writer, journal FROM events
        WHERE (writer, journal) > (hop.writer, hop.journal) AND writer < $2 AND tx >= $3
        ORDER BY writer, journal, chain_seq LIMIT 1
    ) n
)
SELECT h.writer, h.journal, coalesce(s.chain_seq, 0) FROM hop h LEFT JOIN seen s USING (writer, journal)
ORDER BY h.writer, h.journal;

-- name: arrived
SELECT chain_seq, tx FROM events WHERE writer = $1 AND journal = $2 AND chain_seq > $3 AND tx >= $5
ORDER BY chain_seq LIMIT $4;

-- name: note_seen
INSERT INTO seen (writer, journal, chain_seq) SELECT * FROM unnest($1::integer[], $2::integer[], $3::bigint[])
ON CONFLICT (writer, journal) DO UPDATE SET chain_seq = excluded.chain_seq WHERE seen.chain_seq < excluded.chain_seq;

-- One transaction that has ended in two regions, and not in the same way: each way round.
-- name: apart
SELECT a.id, a.id, b.region, b.status FROM transactions a JOIN transactions b ON b.id = a.id
WHERE a.region <> b.region AND a.state = 'end' AND b.state = 'end'
    AND (a.status, a.answer_digest) IS DISTINCT FROM (b.status, b.answer_digest)

-- name: ended_apart
{apart} AND a.id = ANY ($1) AND b.id = ANY ($1);

-- name: ended_apart_anywhere
{apart};

-- name: both_settled
EXISTS (
    SELECT 1 FROM payments p JOIN transactions t ON t.id = p.tx AND t.region = p.region
    WHERE p.tx = h.tx AND p.ordinal = h.payment AND coalesce(p.status, t.status) = 'ACSC'
)
AND EXISTS (
    SELECT 1 FROM payments p JOIN transactions t ON t.id = p.tx AND t.region = p.region
    WHERE p.tx = k.tx AND p.ordinal = k.payment AND coalesce(p.status, t.status) = 'ACSC'
)

-- One payment that has settled as transactions of two regions. Row by row, as all look-ups of names.
-- name: settled_twice
SELECT DISTINCT k.tx, h.tx, h.region, 'ACSC' FROM unnest($1::uuid[]) AS u (tx) CROSS JOIN LATERAL (
    SELECT client, kind, value, region, tx, payment FROM keys
    WHERE tx = u.tx AND freed = '00000000-0000-0000-0000-000000000000' AND payment > 0 OFFSET 0
) h CROSS JOIN LATERAL (
    SELECT tx, payment FROM keys WHERE client = h.client AND kind = h.kind AND value = h.value
        AND freed = '00000000-0000-0000-0000-000000000000' AND region <> h.region AND tx <> h.tx AND payment > 0 OFFSET 0
) k WHERE {both_settled};

-- name: settled_twice_anywhere
SELECT DISTINCT k.tx, h.tx, h.region, 'ACSC' FROM keys h JOIN keys k USING (client, kind, value, freed)
WHERE freed = '00000000-0000-0000-0000-000000000000' AND h.region <> k.region AND h.tx <> k.tx
    AND h.payment > 0 AND k.payment > 0 AND {both_settled};

-- What is flagged is little, and has an index of its own; the newest first.
-- name: flagged
SELECT id FROM transactions WHERE flagged AND region = $1;

-- name: ended_twice
SELECT DISTINCT ON (tx) tx, content FROM events
WHERE tx = ANY ($1) AND position('"kind":"EndedTwice"'::bytea IN content) > 0 ORDER BY tx DESC, epoch DESC, seq DESC;

-- -- comparing two regions -------------------------------------------------------------------------------------------

-- name: key_columns
SELECT c.relname::text, ARRAY(
    SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY k.place
)
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE i.indisprimary AND i.indrelid = ANY (ARRAY(SELECT to_regclass(name) FROM unnest($1::text[]) AS u (name)));

-- Ranges of ids whose rows are in an archive, and not in the database.
-- name: archived_ranges
SELECT lower, upper FROM archives WHERE restored_at IS NULL;

-- A row as text comes to the same on every server, and its SHA-256 too; of many rows, those of them all together,
-- whatever their order.
-- name: digests
SELECT day, count(*),
    bit_xor(('x' || substr(hash, 1, 16))::bit(64)::bigint), bit_xor(('x' || substr(hash, 17, 16))::bit(64)::bigint)
FROM (SELECT {day} AS day, {hash} AS hash FROM {table} WHERE {rows}) r GROUP BY day ORDER BY day;

-- name: rows_of_day
SELECT {key} AS key, {hash} AS hash FROM {table} WHERE {rows} AND {of_day} ORDER BY 1;

-- name: rows_by_key
SELECT {key} AS key, {hash} AS hash FROM {table} WHERE {rows} AND {of_day} AND {key} = ANY ($1);
