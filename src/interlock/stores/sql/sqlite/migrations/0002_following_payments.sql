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

-- A message too long for one piece: its row in `bodies` has no content, its parts are here, from 1. place is
-- bodies.row.
CREATE TABLE parts (
    place   INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (place, number)
) STRICT;

-- Messages of many payments that are being put down and do not count yet: while a row is here nobody sees its payments,
-- and whoever wants its keys may take them. `row` is the one that the transaction will have.
CREATE TABLE stagings (
    row    INTEGER PRIMARY KEY,
    id     BLOB NOT NULL,
    client TEXT NOT NULL,
    -- Of the process that has it in hand.
    token  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX stagings_id ON stagings (id);

-- The keys that were put down, some at a time, so that they can be taken back: `keys` cannot be asked by transaction.
CREATE TABLE staged_keys (
    tx     INTEGER NOT NULL,
    number INTEGER NOT NULL,
    keys   BLOB NOT NULL,
    PRIMARY KEY (tx, number)
) STRICT;

-- Payments of them whose key somebody else has taken.
CREATE TABLE staging_losses (
    tx      INTEGER NOT NULL,
    payment INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (tx, payment, kind)
) STRICT, WITHOUT ROWID;
