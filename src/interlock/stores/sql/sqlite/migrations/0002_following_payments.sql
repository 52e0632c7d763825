-- A payment may follow its transaction: its status is NULL then, and it ends without being written. SQLite cannot take
-- a NOT NULL away, so the table is made anew. `note` says why a payment was refused, in words.
CREATE TABLE payments_anew (
    tx             INTEGER NOT NULL,
    ordinal        INTEGER NOT NULL,
    instruction_id TEXT,
    end_to_end_id  TEXT,
    transaction_id TEXT,
    uetr           TEXT,
    amount         TEXT,
    currency       TEXT,
    status         TEXT,
    reason         TEXT,
    note           TEXT,
    PRIMARY KEY (tx, ordinal)
) STRICT, WITHOUT ROWID;
INSERT INTO payments_anew
SELECT tx, ordinal, instruction_id, end_to_end_id, transaction_id, uetr, amount, currency, status, reason, NULL
FROM payments;
DROP TABLE payments;
ALTER TABLE payments_anew RENAME TO payments;
