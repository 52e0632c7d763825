-- Times are microseconds since 1970-01-01 UTC. `tx` is transactions.row throughout.
-- Keys begin with their writer (region and incarnation), so that growing to several regions changes no meaning.

-- One row: which process may write, what it last committed, and where its chain ends.
CREATE TABLE writer (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    region      INTEGER NOT NULL,
    -- Counted up when a file is restored from a backup, so that no key is used twice.
    incarnation INTEGER NOT NULL,
    -- Fencing token of the process that writes; an older one commits nothing.
    token       INTEGER NOT NULL,
    token_at    INTEGER NOT NULL,
    -- The last batch and what its writes came to: how an unknown outcome is read back.
    batch       BLOB NOT NULL,
    outcomes    BLOB NOT NULL,
    chain_seq   INTEGER NOT NULL,
    chain_hash  BLOB NOT NULL
) STRICT;

-- The present state of each transaction: a cache of the fold over its events.
CREATE TABLE transactions (
    row         INTEGER PRIMARY KEY,
    id          BLOB NOT NULL,
    client      TEXT NOT NULL,
    region      INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    route       TEXT NOT NULL,
    state       TEXT NOT NULL,
    status      TEXT NOT NULL,
    "end"       TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    due_clock   TEXT,
    due_at      INTEGER,
    sla_left    REAL,
    announced   TEXT,
    definition  TEXT,
    message_id  TEXT,
    reference   TEXT,
    reason      TEXT,
    code        TEXT,
    note        TEXT,
    payments    INTEGER NOT NULL,
    digest      BLOB,
    answer      TEXT,
    -- SHA-256 of the answer, from the intent to end on.
    answer_digest BLOB,
    answer_due  INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    redrive_of  BLOB,
    redriven_as BLOB,
    approved_by TEXT,
    flagged     INTEGER NOT NULL,
    -- Its payments settle only once all other regions have them, and none of those holds the same.
    everywhere  INTEGER NOT NULL
) STRICT;
-- Ids are UUIDv7: time-ordered, so this index grows at its end, and a range of time is a range of ids.
CREATE UNIQUE INDEX transactions_id ON transactions (id);
CREATE INDEX transactions_client ON transactions (client, id);
-- Few are in one of these states at a time; what was settled is found by the index above.
CREATE INDEX transactions_status ON transactions (client, status, id) WHERE status <> 'ACSC';
-- What the operations desk must look at: next to nothing.
CREATE INDEX transactions_flagged ON transactions (id) WHERE flagged = 1;
-- Whatever has no end has a clock that runs: what is in flight, and what is overdue.
CREATE INDEX transactions_due ON transactions (due_at) WHERE due_at IS NOT NULL;

-- Append-only. `content` is the event as canonical JSON; hash = SHA-256(previous || content).
CREATE TABLE events (
    chain_seq INTEGER PRIMARY KEY,
    writer    INTEGER NOT NULL,
    tx        INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    content   BLOB NOT NULL,
    previous  BLOB NOT NULL,
    hash      BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_tx ON events (tx, seq, writer);

-- Immutable. row = tx * 2 (inbox) or tx * 2 + 1 (outbox); content is zstd, digest is of the bytes received.
CREATE TABLE bodies (
    row        INTEGER PRIMARY KEY,
    definition TEXT,
    digest     BLOB NOT NULL,
    content    BLOB NOT NULL
) STRICT;

CREATE TABLE payments (
    tx             INTEGER NOT NULL,
    ordinal        INTEGER NOT NULL,
    instruction_id TEXT,
    end_to_end_id  TEXT,
    transaction_id TEXT,
    uetr           TEXT,
    amount         TEXT,
    currency       TEXT,
    status         TEXT NOT NULL,
    reason         TEXT,
    PRIMARY KEY (tx, ordinal)
) STRICT, WITHOUT ROWID;

-- Names of messages and payments, never partitioned by time. `freed` is 0 for a key that is reserved (so it is unique),
-- else the tx that it only finds. A key reserved for a payment that was rejected or cancelled may be taken over:
-- whether it is free is read from the payment, in the transaction that takes it, so freeing costs no write.
CREATE TABLE keys (
    client  TEXT NOT NULL,
    kind    TEXT NOT NULL,
    value   TEXT NOT NULL,
    freed   INTEGER NOT NULL,
    tx      INTEGER NOT NULL,
    payment INTEGER NOT NULL,
    PRIMARY KEY (client, kind, value, freed)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    tx       INTEGER NOT NULL,
    channel  TEXT NOT NULL,
    state    TEXT NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (tx, channel)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    client TEXT NOT NULL,
    key    TEXT NOT NULL,
    digest BLOB NOT NULL,
    tx     INTEGER NOT NULL,
    PRIMARY KEY (client, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE clients (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    secret_mac  BLOB NOT NULL,
    scopes      TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    disabled_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE signing_keys (
    id          TEXT PRIMARY KEY,
    private_pem BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    retired_at  INTEGER
) STRICT, WITHOUT ROWID;

-- Append-only; the newest order for a scope and name stands.
CREATE TABLE controls (
    seq     INTEGER PRIMARY KEY,
    scope   TEXT NOT NULL,
    name    TEXT NOT NULL,
    stopped INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    note    TEXT,
    at      INTEGER NOT NULL
) STRICT;
