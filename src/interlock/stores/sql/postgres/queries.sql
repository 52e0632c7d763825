-- Each query has a name; the store looks them up by it. Lists of rows come as an array a column.

-- A lease that is over. One that ends later than any can was given by a clock that has been set back since.
-- name: over
(lease_until <= clock_timestamp() OR lease_until > clock_timestamp() + interval '310 seconds')

-- name: over_led
(leads.lease_until <= clock_timestamp() OR leads.lease_until > clock_timestamp() + interval '310 seconds')

-- name: transaction
uuid_send(t.id), t.client, t.region, t.epoch, t.version, t.route, t.state, t.status, t."end", t.created_at, t.updated_at,
t.due_clock, t.due_at, t.sla_left, t.announced, t.definition, t.message_id, t.reference, t.reason, t.code, t.note,
t.payments, t.digest, t.answer, t.answer_digest, t.answer_due, t.attempt, uuid_send(t.redrive_of), uuid_send(t.redriven_as),
t.approved_by, t.flagged, t.everywhere

-- -- a process and its journal ---------------------------------------------------------------------------------------

-- A journal that nobody has, or whose lease has run out; the processes' own order keeps them apart.
-- name: idle_journal
SELECT journal, token FROM journals
WHERE writer = $1 AND (token IS NULL OR {over})
ORDER BY journal LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: new_journal
INSERT INTO journals (writer, journal, lease_until, chain_hash)
SELECT $1, coalesce(max(journal), 0) + 1, clock_timestamp(), $2 FROM journals WHERE writer = $1
ON CONFLICT DO NOTHING RETURNING journal;

-- name: take_journal
UPDATE journals SET token = nextval('tokens'), lease_until = clock_timestamp() + $3 * interval '1 second'
WHERE writer = $1 AND journal = $2 RETURNING token;

-- name: insert_orphan
INSERT INTO orphans (token) VALUES ($1) ON CONFLICT DO NOTHING;

-- A process that is gone loses its journal, whosever writer it was; whoever is in the midst of a commit is not gone.
-- name: retire_journals
WITH gone AS (
    SELECT writer, journal, token FROM journals
    WHERE token IS NOT NULL AND token <> $1 AND {over} FOR UPDATE SKIP LOCKED
), retired AS (
    UPDATE journals j SET token = NULL FROM gone g WHERE j.writer = g.writer AND j.journal = g.journal
)
INSERT INTO orphans (token) SELECT token FROM gone ON CONFLICT DO NOTHING;

-- The orphans, and those whose lease has run out though they hold on to their journal.
-- name: orphans
SELECT token, false FROM orphans
UNION ALL
SELECT token, true FROM journals WHERE token IS NOT NULL AND token <> $1 AND {over};

-- Ends the sessions of processes that stopped (or were cut off) in the midst of a transaction: none of the server's own
-- limits sees them while it waits for the rest of a pipeline. One that waits for a standby waits for good reason.
-- name: end_stalled
SELECT pg_terminate_backend(l.pid) FROM journals j
JOIN pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = j.xmax
JOIN pg_stat_activity a ON a.pid = l.pid AND a.wait_event = 'ClientRead'
WHERE j.token IS NOT NULL AND j.token <> $1 AND {over};

-- name: claim
WITH taken AS MATERIALIZED (
    SELECT id, region FROM transactions
    WHERE claim = ANY ($2) AND state IN ('ACTC', 'ACSP', 'ending', 'handing') AND id >= $4 AND region = $5
    ORDER BY id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE transactions t SET claim = $1 FROM taken WHERE t.id = taken.id AND t.region = taken.region AND t.id >= $4
RETURNING {transaction};

-- An orphan whose transactions are all taken over (those being taken over are still under its token).
-- name: forget_orphans
DELETE FROM orphans o WHERE token = ANY ($1) AND NOT EXISTS (
    SELECT 1 FROM transactions
    WHERE claim = o.token AND state IN ('ACTC', 'ACSP', 'ending', 'handing') AND id >= $2 AND region = $3
);

-- name: release
UPDATE journals SET token = NULL, lease_until = clock_timestamp() WHERE writer = $1 AND journal = $2 AND token = $3;

-- name: lead
INSERT INTO leads (job, token, lease_until) VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')
ON CONFLICT (job) DO UPDATE SET token = excluded.token, lease_until = excluded.lease_until
WHERE leads.token = excluded.token OR {over_led};

-- name: give_up_leads
DELETE FROM leads WHERE token = $1;

-- -- a batch ---------------------------------------------------------------------------------------------------------

-- Locks the journal until the commit: nobody can take it over, nor its transactions, while a commit is under way.
-- name: fence
SELECT j.chain_seq, j.chain_hash, r.epoch, r.guards, r.fenced FROM journals j, region r
WHERE j.writer = $1 AND j.journal = $2 AND j.token = $3 AND j.lease_until > clock_timestamp() FOR NO KEY UPDATE OF j;

-- Whoever changes the region's epoch waits for all who hold this; asked for before anything is read, so that what is read
-- is what stands until the commit. (A lock on the row itself would be written to the log with every commit.)
-- name: under_epoch
SELECT pg_advisory_xact_lock_shared({post_lock});

-- name: change_epoch
SELECT pg_advisory_xact_lock({post_lock});

-- name: post_lock
5865306410

-- name: change_post
UPDATE region SET epoch = $2, guards = $3::integer[], fenced = $4 WHERE epoch = $1;

-- name: post
SELECT epoch, guards, fenced FROM region;

-- In the order of ids, as everybody does, so that two batches never wait for each other. Of what is to be born there
-- must be none.
-- name: versions
SELECT uuid_send(id), version FROM transactions WHERE id = ANY ($1) AND region = $2 ORDER BY id FOR NO KEY UPDATE;

-- name: insert_transactions
INSERT INTO transactions (
    id, client, region, epoch, version, route, state, status, "end", created_at, updated_at, due_clock, due_at,
    sla_left, announced, definition, message_id, reference, reason, code, note, payments, digest, answer,
    answer_digest, answer_due, attempt, redrive_of, redriven_as, approved_by, flagged, everywhere, claim
)
SELECT *, $33::bigint FROM unnest(
    $1::uuid[], $2::text[], $3::integer[], $4::integer[], $5::integer[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::bigint[], $11::bigint[], $12::text[], $13::bigint[], $14::double precision[], $15::text[], $16::text[],
    $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::integer[], $23::bytea[], $24::text[],
    $25::bytea[], $26::boolean[], $27::integer[], $28::uuid[], $29::uuid[], $30::text[], $31::boolean[],
    $32::boolean[]
);

-- What is fixed at birth (client, region, created_at, announced, reference, attempt, redrive_of) is not written again.
-- name: update_transactions
UPDATE transactions t SET
    epoch = u.epoch, version = u.version, route = u.route, state = u.state, status = u.status, "end" = u."end",
    updated_at = u.updated_at, due_clock = u.due_clock, due_at = u.due_at, sla_left = u.sla_left,
    definition = u.definition, message_id = u.message_id, reason = u.reason, code = u.code, note = u.note,
    payments = u.payments, digest = u.digest, answer = u.answer, answer_digest = u.answer_digest,
    answer_due = u.answer_due, redriven_as = u.redriven_as, approved_by = u.approved_by, flagged = u.flagged,
    everywhere = u.everywhere, claim = $26
FROM unnest(
    $1::integer[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[],
    $9::bigint[], $10::double precision[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
    $16::integer[], $17::bytea[], $18::text[], $19::bytea[], $20::boolean[], $21::uuid[], $22::text[], $23::boolean[],
    $24::boolean[], $25::uuid[]
) AS u (
    epoch, version, route, state, status, "end", updated_at, due_clock, due_at, sla_left, definition, message_id,
    reason, code, note, payments, digest, answer, answer_digest, answer_due, redriven_as, approved_by, flagged, everywhere, id
)
WHERE t.id = u.id AND t.id = ANY ($25) AND t.region = $27;

-- name: insert_idempotency
INSERT INTO idempotency (client, key, region, digest, tx)
SELECT client, key, $4::integer, digest, tx
FROM unnest($1::text[], $2::text[], $3::bytea[], $5::uuid[]) AS u (client, key, digest, tx)
ORDER BY client COLLATE "C", key COLLATE "C"
ON CONFLICT DO NOTHING RETURNING uuid_send(tx);

-- name: used
SELECT i.* FROM unnest($1::text[], $2::text[]) AS u (client, key) CROSS JOIN LATERAL (
    SELECT client, key, uuid_send(tx), digest FROM idempotency
    WHERE client = u.client AND key = u.key AND region = $3 OFFSET 0
) i;

-- name: used_abroad
SELECT i.* FROM unnest($1::text[], $2::text[]) AS u (client, key) CROSS JOIN LATERAL (
    SELECT client, key, uuid_send(tx), digest FROM idempotency
    WHERE client = u.client AND key = u.key AND region <> $3 LIMIT 1 OFFSET 0
) i;

-- name: delete_idempotency
DELETE FROM idempotency WHERE ctid = ANY (ARRAY (
    SELECT i.place FROM unnest($1::text[], $2::text[]) AS u (client, key) CROSS JOIN LATERAL (
        SELECT ctid AS place FROM idempotency WHERE client = u.client AND key = u.key AND region = $3 OFFSET 0
    ) i
));

-- Sorted, so that two batches that want the same keys never wait for each other.
-- name: reserve
INSERT INTO keys (client, kind, value, freed, region, tx, payment)
SELECT client, kind, value, '00000000-0000-0000-0000-000000000000', $6::integer, tx, payment
FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::integer[]) AS u (client, kind, value, tx, payment)
ORDER BY client COLLATE "C", kind COLLATE "C", value COLLATE "C"
ON CONFLICT DO NOTHING RETURNING client, kind, value;

-- Row by row (that is what OFFSET 0 says): joined to a list, a planner that knows nothing of the table yet would read
-- all of it. So in all statements that look names up.
-- name: holders
SELECT k.* FROM unnest($1::text[], $2::text[], $3::text[]) AS u (client, kind, value) CROSS JOIN LATERAL (
    SELECT client, kind, value, uuid_send(tx), payment FROM keys
    WHERE client = u.client AND kind = u.kind AND value = u.value
        AND freed = '00000000-0000-0000-0000-000000000000' AND region = $4 OFFSET 0
) k;

-- name: came_to_nothing
SELECT 1 FROM {payments_now}
WHERE p.tx = h.tx AND p.ordinal = h.payment AND coalesce(p.status, t.status) IN ('RJCT', 'CANC')

-- Of our own: what was cancelled by itself others may have sent again, while the rest of its message goes on.
-- name: let_go
SELECT 1 FROM {payments_now}
WHERE p.tx = k.tx AND p.ordinal = k.payment AND p.region = k.region AND coalesce(p.status, t.status) IN ('RJCT', 'CANC')

-- A payment without a status of its own has its transaction's, as the same region has it.
-- name: payments_now
payments p JOIN transactions t ON t.id = p.tx AND t.region = p.region

-- What other regions hold and have not let go: a payment that came to nothing anywhere did so for good.
-- name: held_abroad
SELECT k.* FROM unnest($1::text[], $2::text[], $3::text[]) AS u (client, kind, value) CROSS JOIN LATERAL (
    SELECT client, kind, value, uuid_send(tx), payment FROM keys h
    WHERE client = u.client AND kind = u.kind AND value = u.value
        AND freed = '00000000-0000-0000-0000-000000000000' AND region <> $4 AND NOT EXISTS (
            {came_to_nothing}
        ) OFFSET 0
) k;

-- name: rivals
SELECT k.tx, h.tx, bool_or(EXISTS (
    SELECT 1 FROM {payments_now}
    WHERE p.tx = h.tx AND p.ordinal = h.payment AND coalesce(p.status, t.status) = 'ACSC'
)), bool_or(EXISTS (
    SELECT 1 FROM transactions t WHERE t.id = h.tx AND t.state = 'ending' AND t."end" = 'ACSC'
))
FROM keys k JOIN keys h USING (client, kind, value, freed)
WHERE k.tx = ANY ($1) AND k.region = $2 AND k.freed = '00000000-0000-0000-0000-000000000000'
    AND h.region <> $2 AND h.tx <> k.tx AND h.payment > 0 AND NOT EXISTS (
        {came_to_nothing}
    ) AND NOT EXISTS (
        {let_go}
    )
GROUP BY k.tx, h.tx;

-- name: failed_payments
SELECT uuid_send(p.tx), p.ordinal FROM {payments_now}
WHERE p.tx = ANY ($1) AND t.id = ANY ($1) AND coalesce(p.status, t.status) IN ('RJCT', 'CANC');

-- name: unreserve
DELETE FROM keys WHERE ctid = ANY (ARRAY (
    SELECT k.place FROM unnest($1::text[], $2::text[], $3::text[]) AS u (client, kind, value) CROSS JOIN LATERAL (
        SELECT ctid AS place FROM keys
        WHERE client = u.client AND kind = u.kind AND value = u.value
            AND freed = '00000000-0000-0000-0000-000000000000' AND region = $4 OFFSET 0
    ) k
));

-- Take a key whose payment came to nothing, unless somebody else just did; the old holder is still found by it. (One at
-- a time, in one trip: joined to a list, a planner that knows nothing of the table yet would read all of it.)
-- name: take_over
WITH taken AS (
    UPDATE keys SET tx = $6, payment = $7
    WHERE client = $1 AND kind = $2 AND value = $3 AND freed = '00000000-0000-0000-0000-000000000000'
        AND region = $8 AND tx = $4 AND payment = $5
    RETURNING 1
), named AS (
    -- It may have that name already: one of its other payments had the same.
    INSERT INTO keys (client, kind, value, freed, region, tx, payment)
    SELECT $1, $2, $3, $4, $8, $4, $5 FROM taken ON CONFLICT DO NOTHING
)
SELECT 1 FROM taken;

-- -- messages of many payments that do not count yet ------------------------------------------------------------------

-- Whoever wants a key of one waits here for the commit that makes it count, and it for them.
-- name: weak
SELECT uuid_send(tx) FROM stagings WHERE tx = ANY ($1) ORDER BY tx FOR SHARE;

-- name: lose
INSERT INTO staging_losses (tx, payment, kind, value) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;

-- name: begin_staging
INSERT INTO stagings (tx, client, token) VALUES ($1, $2, $3);

-- Held until the step is done, so that nothing is put down for, or taken from, what counts already.
-- name: may_stage
SELECT 1 FROM stagings s JOIN journals j ON j.token = s.token
WHERE s.tx = $1 AND s.token = $2 AND j.lease_until > clock_timestamp() FOR SHARE OF s;

-- No process has this token.
-- name: give_up_staging
UPDATE stagings SET token = 0 WHERE tx = $1 AND token = $2;

-- name: own_staging
SELECT uuid_send(tx) FROM stagings WHERE tx = ANY ($1) AND token = $2 FOR UPDATE;

-- name: losses
SELECT uuid_send(tx), kind, value, payment FROM staging_losses WHERE tx = ANY ($1);

-- name: take_losses
DELETE FROM staging_losses WHERE ctid = ANY (ARRAY (SELECT ctid FROM staging_losses WHERE tx = $1 LIMIT $2))
RETURNING kind, value, payment;

-- name: end_staging
DELETE FROM stagings WHERE tx = ANY ($1);

-- name: refuse_payments
UPDATE payments p SET status = 'RJCT', reason = u.reason, note = u.note
FROM unnest($2::integer[], $3::text[], $4::text[]) AS u (ordinal, reason, note)
WHERE p.tx = $1 AND p.ordinal = u.ordinal AND p.region = $5 AND p.status IS NULL;

-- name: follow
UPDATE payments SET status = NULL, reason = NULL, note = NULL
WHERE tx = $1 AND region = $2 AND ordinal = ANY (ARRAY (
    SELECT ordinal FROM payments WHERE tx = $1 AND region = $2 AND status IS NOT NULL LIMIT $3
));

-- name: put_part
INSERT INTO bodies (tx, kind, writer, seq, epoch, digest, content) VALUES ($1, $2, $3, 0, 0, $4, $5)
ON CONFLICT (tx, kind, writer, seq, epoch) DO UPDATE SET digest = excluded.digest, content = excluded.content;

-- name: drop_parts
DELETE FROM bodies WHERE tx = $1 AND kind > 1 AND kind % 2 = $2 AND kind > $2 + 2 * $3;

-- name: delete_staged_keys
DELETE FROM keys WHERE ctid = ANY (ARRAY (SELECT ctid FROM keys WHERE tx = $1 LIMIT $2));

-- name: delete_staged_payments
DELETE FROM payments WHERE tx = $1 AND region = $3 AND ordinal = ANY (ARRAY (
    SELECT ordinal FROM payments WHERE tx = $1 AND region = $3 LIMIT $2
));

-- name: delete_staged_parts
DELETE FROM bodies WHERE tx = $1 AND kind > 1 AND kind = ANY (ARRAY (
    SELECT kind FROM bodies WHERE tx = $1 AND kind > 1 LIMIT $2
));

-- Those that nobody has in hand any more.
-- name: adopt_staging
UPDATE stagings SET token = $1 WHERE tx = (
    SELECT tx FROM stagings s WHERE NOT EXISTS (SELECT 1 FROM journals j WHERE j.token = s.token AND NOT {over})
    LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING tx, client;

-- name: parts
SELECT count(DISTINCT kind) FROM bodies WHERE tx = $1 AND kind > 1 AND kind % 2 = $2
    AND EXISTS (SELECT 1 FROM transactions WHERE id = $1);

-- name: part
SELECT content FROM bodies WHERE tx = $1 AND kind = $2 + 2 * $3 LIMIT 1;

-- name: name_keys
INSERT INTO keys (client, kind, value, freed, region, tx, payment)
SELECT client, kind, value, tx, $6::integer, tx, payment
FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::integer[]) AS u (client, kind, value, tx, payment)
ON CONFLICT DO NOTHING;

-- What was another region's is found and refused by our rows too: whoever has those has all of it.
-- name: inherit_keys
INSERT INTO keys (client, kind, value, freed, region, tx, payment)
SELECT k.client, k.kind, k.value, k.freed, $3::integer, k.tx, k.payment
FROM unnest($1::uuid[], $2::integer[]) AS u (tx, home) JOIN keys k ON k.tx = u.tx AND k.region = u.home
ON CONFLICT DO NOTHING;

-- name: insert_events
INSERT INTO events (tx, seq, epoch, writer, journal, chain_seq, content, previous, hash)
SELECT tx, seq, epoch, $7::integer, $8::integer, $9::bigint + number, content, previous, hash
FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::bytea[], $5::bytea[], $6::bytea[]) WITH ORDINALITY
    AS u (tx, seq, epoch, content, previous, hash, number);

-- name: insert_bodies
INSERT INTO bodies (tx, kind, writer, seq, epoch, definition, digest, content)
SELECT tx, kind, $8::integer, seq, epoch, definition, digest, content
FROM unnest($1::uuid[], $2::smallint[], $3::integer[], $4::integer[], $5::text[], $6::bytea[], $7::bytea[])
    AS u (tx, kind, seq, epoch, definition, digest, content);

-- name: insert_payments
INSERT INTO payments (
    tx, ordinal, region, instruction_id, end_to_end_id, transaction_id, uetr, amount, currency, status, reason, note
)
SELECT
    tx, ordinal, $12::integer, instruction_id, end_to_end_id, transaction_id, uetr, amount, currency, status, reason, note
FROM unnest(
    $1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::text[]
) AS u (tx, ordinal, instruction_id, end_to_end_id, transaction_id, uetr, amount, currency, status, reason, note)
-- Only where a region has back what another had taken over: its own rows of before stand for nothing any more.
ON CONFLICT (tx, ordinal, region) DO UPDATE SET status = excluded.status, reason = excluded.reason, note = excluded.note;

-- One end a payment: what is final stays as it is.
-- name: end_payments
UPDATE payments p SET status = u.status, reason = u.reason, note = coalesce(u.note, p.note)
FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::text[]) AS u (tx, ordinal, status, reason, note)
WHERE p.tx = u.tx AND p.tx = ANY ($1) AND p.ordinal = u.ordinal AND p.region = $6
    AND (p.status IS NULL OR p.status NOT IN ('ACSC', 'RJCT', 'CANC'));

-- Those that follow their transaction have no status, and need none.
-- name: end_all_payments
UPDATE payments p SET status = u.status, reason = u.reason
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS u (tx, status, reason)
WHERE p.tx = u.tx AND p.tx = ANY ($1) AND p.region = $4 AND p.status NOT IN ('ACSC', 'RJCT', 'CANC');

-- name: insert_deliveries
INSERT INTO deliveries (tx, channel, region, state, at)
SELECT tx, channel, $5::integer, state, at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) AS u (tx, channel, state, at);

-- A delivery only ever moves on.
-- name: update_deliveries
UPDATE deliveries d SET state = u.state, at = u.at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) AS u (tx, channel, state, at)
WHERE d.tx = u.tx AND d.tx = ANY ($1) AND d.channel = u.channel AND d.region = $5
    AND d.state NOT IN ('confirmed', u.state);

-- name: put_client
INSERT INTO clients (id, name, secret_mac, scopes, created_at, disabled_at, region, changed_at)
SELECT $1, $2, $3, $4, $5, $6, number, {now} FROM region
ON CONFLICT (id, region) DO UPDATE SET
    name = excluded.name, secret_mac = excluded.secret_mac, scopes = excluded.scopes,
    disabled_at = excluded.disabled_at, changed_at = excluded.changed_at;

-- name: put_signing_key
INSERT INTO signing_keys (id, private_pem, created_at, retired_at, region, changed_at)
SELECT $1, $2, $3, $4, number, {now} FROM region
ON CONFLICT (id, region) DO UPDATE SET retired_at = excluded.retired_at, changed_at = excluded.changed_at;

-- name: put_control
INSERT INTO controls (scope, name, stopped, actor, note, at, region, seq)
SELECT $1, $2, $3, $4, $5, $6, number, (SELECT coalesce(max(seq), 0) + 1 FROM controls) FROM region;

-- name: seal
UPDATE journals SET
    batch = $4, outcomes = $5, chain_seq = $6, chain_hash = $7, latest = greatest(latest, $8),
    lease_until = clock_timestamp() + $9 * interval '1 second'
WHERE writer = $1 AND journal = $2 AND token = $3;

-- The end of the server's log on its disk, after a commit; whoever has flushed up to here has that commit. (What was
-- written and not flushed is sent to nobody, and so may never be confirmed.)
-- name: position
SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint;

-- Waits for whatever commit of ours the server may still be at.
-- name: committed
SELECT batch, outcomes, token FROM journals WHERE writer = $1 AND journal = $2 FOR UPDATE;

-- -- reading ---------------------------------------------------------------------------------------------------------

-- name: get
SELECT {transaction}, CASE WHEN t.region = $2 THEN 0 ELSE coalesce((
    SELECT o.version FROM transactions o WHERE o.id = $1 AND o.region = $2
), 0) END
FROM transactions t WHERE t.id = $1 ORDER BY t.epoch DESC LIMIT 1;

-- Each once, though several regions may have written it.
-- name: history
SELECT DISTINCT ON (epoch, seq) content FROM events WHERE tx = $1 ORDER BY epoch, seq, writer;

-- What has happened to a transaction before it became this region's, and is not written by this region yet.
-- name: inherited
SELECT DISTINCT ON (epoch, seq) content FROM events e
WHERE tx = $1 AND NOT EXISTS (
    SELECT 1 FROM events o WHERE o.tx = $1 AND o.seq = e.seq AND o.epoch = e.epoch AND o.writer / 1000000 = $2
) ORDER BY epoch, seq, writer;

-- name: payment
p.ordinal, p.instruction_id, p.end_to_end_id, p.transaction_id, p.uetr, p.amount, p.currency,
coalesce(p.status, t.status), CASE WHEN p.status IS NULL THEN t.reason ELSE p.reason END, p.note, p.status IS NULL

-- name: newest_row
(SELECT id, region, state, status, reason FROM transactions WHERE id = $1 ORDER BY epoch DESC LIMIT 1)

-- name: payments
SELECT {payment} FROM {newest_row} t JOIN payments p ON p.tx = $1 AND p.region = t.region ORDER BY p.ordinal;

-- What is shown: what has no end stands as its transaction does, and of an end that is only intended nothing shows.
-- name: shown
CASE WHEN t.state <> 'ending' AND p.status IN ('ACSC', 'RJCT', 'CANC') THEN p.status ELSE t.status END

-- name: payments_page
SELECT {payment} FROM {newest_row} t JOIN payments p ON p.tx = $1 AND p.region = t.region
WHERE p.ordinal > $2 AND ($3::text IS NULL OR {shown} = $3) ORDER BY p.ordinal LIMIT $4;

-- name: message
SELECT definition, digest, content FROM bodies WHERE tx = $1 AND kind = $2 AND ($2 = 0 OR digest = (
    SELECT answer_digest FROM transactions WHERE id = $1 ORDER BY epoch DESC LIMIT 1
)) LIMIT 1;

-- name: delivery
SELECT state FROM deliveries WHERE tx = $1 AND channel = $2 ORDER BY state = 'confirmed' DESC, at DESC LIMIT 1;

-- name: archived
SELECT name FROM archives WHERE lower <= $1 AND $1 < upper AND restored_at IS NULL ORDER BY archived_at DESC LIMIT 1;

-- By the small index of what has no end, not by that of all ids.
-- name: in_flight
WITH open AS MATERIALIZED (
    SELECT id FROM transactions WHERE due_at IS NOT NULL AND id >= $1 AND id > $2 AND region = $4
)
SELECT id FROM open ORDER BY id LIMIT $3;

-- name: ended
SELECT uuid_send(id) FROM transactions WHERE id = ANY ($1) AND state = 'end';

-- Asked many times a second, and as good as never is there one: so the bounds leave few partitions to plan for.
-- name: overdue
SELECT id FROM transactions WHERE due_at <= $1 AND id >= $2 AND id < $3 AND region = $5 ORDER BY due_at LIMIT $4;

-- name: several
SELECT {transaction} FROM transactions t WHERE t.id = ANY ($1) AND t.region = $2;

-- name: next_deadline
SELECT due_clock, due_at FROM transactions WHERE due_at IS NOT NULL AND id >= $1 AND region = $2
ORDER BY due_at LIMIT 1;

-- No transaction older than this one is without an end, nor will be again.
-- name: floor
SELECT min(id::text)::uuid FROM transactions WHERE due_at IS NOT NULL;

-- name: idempotent
SELECT uuid_send(tx), digest FROM idempotency WHERE client = $1 AND key = $2;

-- name: client
SELECT id, name, secret_mac, scopes, created_at, disabled_at FROM clients WHERE id = $1 ORDER BY changed_at DESC LIMIT 1;

-- name: clients
SELECT * FROM (
    SELECT DISTINCT ON (id) id, name, secret_mac, scopes, created_at, disabled_at FROM clients ORDER BY id, changed_at DESC
) c ORDER BY created_at, id;

-- name: signing_keys
SELECT * FROM (
    SELECT DISTINCT ON (id) id, private_pem, created_at, retired_at FROM signing_keys ORDER BY id, changed_at DESC
) k ORDER BY created_at, id;

-- name: controls
SELECT DISTINCT ON (scope, name) scope, name, stopped, actor, note, at FROM controls
ORDER BY scope, name, seq DESC, at DESC;

-- name: open_by_client
SELECT client, count(*) FROM transactions WHERE due_at IS NOT NULL AND id >= $1 AND region = $2 GROUP BY client;

-- name: open_by_status
SELECT state, status, count(*), min(created_at) FROM transactions WHERE due_at IS NOT NULL AND id >= $1 AND region = $2
GROUP BY state, status;

-- name: parked_deliveries
SELECT count(*) FROM deliveries WHERE state = 'parked';

-- name: now
(extract(epoch FROM clock_timestamp()) * 1000000)::bigint

-- name: clock
SELECT {now};

-- How far our peers have what we wrote, by their slots; one row at least, for the end of the log.
-- name: flushed
SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint, s.slot_name::text,
    (s.confirmed_flush_lsn - '0/0'::pg_lsn)::bigint
FROM (SELECT) one LEFT JOIN pg_replication_slots s
    ON s.slot_type = 'logical' AND s.database = current_database() AND s.slot_name LIKE $1
    AND s.confirmed_flush_lsn IS NOT NULL;

-- What we have cut off from its former home, until that is back.
-- name: taken
SELECT home FROM takeovers WHERE region = $1 AND cut_at IS NOT NULL AND returned_at IS NULL;

-- name: latest
SELECT max(latest) FROM journals;

-- name: heads
SELECT r.number, j.writer, j.journal, j.chain_seq, j.chain_hash FROM journals j, region r
WHERE j.chain_seq > 0 ORDER BY j.writer, j.journal;

-- name: chain
SELECT chain_seq, content, previous, hash FROM events
WHERE writer = $1 AND journal = $2 AND chain_seq > $3 ORDER BY chain_seq LIMIT $4;

-- name: gaps
SELECT first_seq, last_seq, previous, hash, archive FROM gaps
WHERE writer = $1 AND journal = $2 AND last_seq > $3 ORDER BY first_seq LIMIT $4;

-- -- the region and its server ---------------------------------------------------------------------------------------

-- The server, and since when it goes its own way: a promoted standby and a restored backup have another timeline, an
-- upgraded server another identifier.
-- name: server
SELECT system_identifier || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) FROM pg_control_system();

-- name: region
SELECT number, incarnation, server FROM region;

-- name: make_region
INSERT INTO region (number, incarnation, server) VALUES ($1, 1, $2) ON CONFLICT DO NOTHING;

-- name: renew_incarnation
UPDATE region SET incarnation = incarnation + 1, server = $1 WHERE server = $2;

-- name: note_key_proof
UPDATE region SET key_proof = coalesce(key_proof, $1) RETURNING key_proof;
