-- Each query has a name; the store looks them up by it.

-- name: fence
SELECT token FROM writer;

-- name: locate
SELECT row, version FROM transactions WHERE id = ?;

-- name: insert_transaction
INSERT INTO transactions (
    id, client, region, epoch, version, route, state, status, "end", created_at, updated_at, due_clock, due_at,
    sla_left, announced, definition, message_id, reference, reason, code, note, payments, digest, answer,
    answer_digest, answer_due, attempt, redrive_of, redriven_as, approved_by, flagged, everywhere, row
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING;

-- Only a birth that lost in the batch it was tried in.
-- name: delete_transaction
DELETE FROM transactions WHERE row = ?;

-- What is fixed at birth (id, client, region, created_at, announced, reference, attempt, redrive_of) is not written again.
-- name: update_transaction
UPDATE transactions SET
    epoch = ?, version = ?, route = ?, state = ?, status = ?, "end" = ?, updated_at = ?, due_clock = ?, due_at = ?,
    sla_left = ?, definition = ?, message_id = ?, reason = ?, code = ?, note = ?, payments = ?, digest = ?, answer = ?,
    answer_digest = ?, answer_due = ?, redriven_as = ?, approved_by = ?, flagged = ?,
    everywhere = ?
WHERE row = ?;

-- name: insert_event
INSERT INTO events (chain_seq, writer, tx, seq, content, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: insert_body
INSERT INTO bodies (row, definition, digest, content) VALUES (?, ?, ?, ?);

-- name: insert_payment
INSERT INTO payments (
    tx, ordinal, instruction_id, end_to_end_id, transaction_id, uetr, amount, currency, status, reason, note
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- One end a payment: what is final stays as it is.
-- name: end_payment
UPDATE payments SET status = ?, reason = ?, note = coalesce(?, note)
WHERE tx = ? AND ordinal = ? AND (status IS NULL OR status NOT IN ('ACSC', 'RJCT', 'CANC'));

-- Those that follow their transaction have no status, and need none.
-- name: end_payments
UPDATE payments SET status = ?, reason = ? WHERE tx = ? AND status NOT IN ('ACSC', 'RJCT', 'CANC');

-- name: reserve
INSERT OR IGNORE INTO keys (client, kind, value, freed, tx, payment) VALUES (?, ?, ?, 0, ?, ?);

-- name: unreserve
DELETE FROM keys WHERE client = ? AND kind = ? AND value = ? AND freed = 0;

-- What is being put down holds its keys only until somebody takes them.
-- name: holder
SELECT k.tx, k.payment, coalesce(t.id, s.id), coalesce(p.status, t.status) IN ('RJCT', 'CANC'), s.row IS NOT NULL
FROM keys k
LEFT JOIN transactions t ON t.row = k.tx
LEFT JOIN stagings s ON s.row = k.tx
LEFT JOIN payments p ON p.tx = k.tx AND p.ordinal = k.payment
WHERE k.client = ? AND k.kind = ? AND k.value = ? AND k.freed = 0;

-- name: lose
INSERT OR IGNORE INTO staging_losses (tx, payment, kind, value) VALUES (?, ?, ?, ?);

-- name: may_stage
SELECT 1 FROM stagings s, writer w WHERE s.row = ? AND s.token = ? AND w.token = s.token;

-- name: adopt_staging
UPDATE stagings SET token = (SELECT token FROM writer) WHERE row = ?;

-- No process has this token.
-- name: give_up_staging
UPDATE stagings SET token = 0 WHERE row = ? AND token = ?;

-- name: begin_staging
INSERT INTO stagings (row, id, client, token) VALUES (?, ?, ?, ?);

-- name: staging
SELECT row FROM stagings WHERE id = ? AND token = ?;

-- name: losses
SELECT payment, kind, value FROM staging_losses WHERE tx = ? LIMIT ?;

-- name: forget_loss
DELETE FROM staging_losses WHERE tx = ? AND payment = ? AND kind = ?;

-- name: forget_losses
DELETE FROM staging_losses WHERE tx = ?;

-- name: end_staging
DELETE FROM stagings WHERE row = ?;

-- name: forget_staged_keys
DELETE FROM staged_keys WHERE tx = ?;

-- name: insert_staged_keys
INSERT INTO staged_keys (tx, number, keys) VALUES (?, ?, ?);

-- name: staged_keys
SELECT number, keys FROM staged_keys WHERE tx = ? ORDER BY number LIMIT 1;

-- name: delete_staged_keys
DELETE FROM staged_keys WHERE tx = ? AND number = ?;

-- name: delete_key
DELETE FROM keys WHERE client = ? AND kind = ? AND value = ? AND freed = ? AND tx = ?;

-- name: refuse_payment
UPDATE payments SET status = 'RJCT', reason = ?, note = ? WHERE tx = ? AND ordinal = ? AND status IS NULL;

-- name: follow
UPDATE payments SET status = NULL, reason = NULL, note = NULL WHERE tx = ?1 AND ordinal IN (
    SELECT ordinal FROM payments WHERE tx = ?1 AND status IS NOT NULL LIMIT ?2
);

-- name: delete_payments
DELETE FROM payments WHERE tx = ?1 AND ordinal IN (SELECT ordinal FROM payments WHERE tx = ?1 LIMIT ?2);

-- name: put_part
INSERT INTO parts (place, number, content) VALUES (?, ?, ?)
ON CONFLICT (place, number) DO UPDATE SET content = excluded.content;

-- name: drop_parts
DELETE FROM parts WHERE place = ? AND number > ?;

-- name: delete_parts
DELETE FROM parts WHERE place BETWEEN ?1 * 2 AND ?1 * 2 + 1 AND number IN (
    SELECT number FROM parts WHERE place BETWEEN ?1 * 2 AND ?1 * 2 + 1 ORDER BY number LIMIT ?2
);

-- Those that nobody has in hand any more.
-- name: left_staging
SELECT row, client FROM stagings WHERE token <> ? LIMIT 1;

-- name: name_key
INSERT OR IGNORE INTO keys (client, kind, value, freed, tx, payment) VALUES (?, ?, ?, ?, ?, ?);

-- name: insert_delivery
INSERT INTO deliveries (tx, channel, state, at) VALUES (?, ?, ?, ?);

-- A delivery only ever moves on.
-- name: update_delivery
UPDATE deliveries SET state = ?, at = ?
WHERE tx = (SELECT row FROM transactions WHERE id = ?) AND channel = ? AND state NOT IN ('confirmed', ?);

-- name: insert_idempotency
INSERT OR IGNORE INTO idempotency (client, key, digest, tx) VALUES (?, ?, ?, ?);

-- name: forget_idempotency
DELETE FROM idempotency WHERE client = ? AND key = ?;

-- name: idempotent
SELECT t.id, i.digest FROM idempotency i JOIN transactions t ON t.row = i.tx WHERE i.client = ? AND i.key = ?;

-- name: seal
UPDATE writer SET batch = ?, outcomes = ?, chain_seq = ?, chain_hash = ?;

-- name: put_client
INSERT INTO clients (id, name, secret_mac, scopes, created_at, disabled_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, secret_mac = excluded.secret_mac, scopes = excluded.scopes, disabled_at = excluded.disabled_at;

-- name: put_signing_key
INSERT INTO signing_keys (id, private_pem, created_at, retired_at) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET retired_at = excluded.retired_at;

-- name: put_control
INSERT INTO controls (scope, name, stopped, actor, note, at) VALUES (?, ?, ?, ?, ?, ?);

-- name: register
UPDATE writer SET token = token + 1, token_at = ? RETURNING token;

-- name: writer
SELECT region, incarnation, token, batch, outcomes, chain_seq, chain_hash FROM writer;

-- name: next_row
SELECT max(coalesce((SELECT max(row) FROM transactions), 0), coalesce((SELECT max(row) FROM stagings), 0)) + 1;

-- name: get
SELECT * FROM transactions WHERE id = ?;

-- name: history
SELECT e.content FROM events e JOIN transactions t ON t.row = e.tx WHERE t.id = ? ORDER BY e.seq;

-- A payment without a status of its own has its transaction's.
-- name: payment
p.ordinal, p.instruction_id, p.end_to_end_id, p.transaction_id, p.uetr, p.amount, p.currency,
coalesce(p.status, t.status), CASE WHEN p.status IS NULL THEN t.reason ELSE p.reason END, p.note, p.status IS NULL

-- name: payments
SELECT {payment} FROM payments p JOIN transactions t ON t.row = p.tx WHERE t.id = ? ORDER BY p.ordinal;

-- What is shown: what has no end stands as its transaction does, and of an end that is only intended nothing shows.
-- name: shown
CASE WHEN t.state <> 'ending' AND p.status IN ('ACSC', 'RJCT', 'CANC') THEN p.status ELSE t.status END

-- name: payments_page
SELECT {payment} FROM payments p JOIN transactions t ON t.row = p.tx
WHERE t.id = ?1 AND p.ordinal > ?2 AND (?3 IS NULL OR {shown} = ?3) ORDER BY p.ordinal LIMIT ?4;

-- name: parts
SELECT count(*) FROM parts p JOIN transactions t ON p.place = t.row * 2 + ? WHERE t.id = ?;

-- name: part
SELECT p.content FROM parts p JOIN transactions t ON p.place = t.row * 2 + ? WHERE t.id = ? AND p.number = ?;

-- name: message
SELECT b.definition, b.digest, b.content FROM bodies b JOIN transactions t ON b.row = t.row * 2 + ? WHERE t.id = ?;

-- name: delivery
SELECT d.state FROM deliveries d JOIN transactions t ON t.row = d.tx WHERE t.id = ? AND d.channel = ?;

-- The sign keeps SQLite on the small index of what has no end.
-- name: in_flight
SELECT * FROM transactions WHERE due_at IS NOT NULL AND +id > ? ORDER BY +id LIMIT ?;

-- name: left_half_way
SELECT * FROM transactions WHERE due_at IS NOT NULL AND state IN ('ACTC', 'ACSP') AND +id > ? AND +id <= ?
ORDER BY +id LIMIT ?;

-- name: newest
SELECT id FROM transactions ORDER BY id DESC LIMIT 1;

-- name: overdue
SELECT * FROM transactions WHERE due_at <= ? ORDER BY due_at LIMIT ?;

-- name: next_deadline
SELECT due_clock, due_at FROM transactions WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1;

-- name: client
SELECT id, name, secret_mac, scopes, created_at, disabled_at FROM clients WHERE id = ?;

-- name: clients
SELECT id, name, secret_mac, scopes, created_at, disabled_at FROM clients ORDER BY created_at, id;

-- name: signing_keys
SELECT id, private_pem, created_at, retired_at FROM signing_keys ORDER BY created_at, id;

-- name: controls
SELECT scope, name, stopped, actor, note, at FROM controls
WHERE seq IN (SELECT max(seq) FROM controls GROUP BY scope, name) ORDER BY scope, name;

-- name: open_by_client
SELECT client, count(*) FROM transactions WHERE due_at IS NOT NULL GROUP BY client;

-- name: open_by_status
SELECT state, status, count(*), min(created_at) FROM transactions WHERE due_at IS NOT NULL GROUP BY state, status;

-- name: parked_deliveries
SELECT count(*) FROM deliveries WHERE state = 'parked';

-- name: latest
SELECT content FROM events ORDER BY chain_seq DESC LIMIT 1;

-- name: chain
SELECT chain_seq, content, previous, hash FROM events WHERE chain_seq > ? ORDER BY chain_seq;
