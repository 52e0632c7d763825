-- Times are microseconds since 1970-01-01 UTC, but for leases, which go by the database's own clock (timestamptz).
-- `tx` is transactions.id throughout, a UUIDv7: it begins with its time, so a range of ids is a range of time, and the
-- tables that grow with every transaction are partitioned by it. The store makes the partitions; each table has a
-- DEFAULT one too, so that nothing is ever refused for want of a partition.
-- What is looked up by text compares it by bytes (COLLATE "C"): a language's order costs several times as much.
-- Keys hold their writer (region and incarnation) or region, so that rows of several regions never clash.

-- One row: which region this database is of.
CREATE TABLE region (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    number      integer NOT NULL,
    -- Counted up when the server is another one than before (promoted, restored): no key may be used twice.
    incarnation integer NOT NULL,
    -- Identifier and timeline of the server when this was noted.
    server      text NOT NULL,
    -- Proof of the key that client secrets are kept under.
    key_proof   bytea,
    -- Since when several regions are connected, everything is committed under this epoch: whoever changes it waits for
    -- all who commit. The peers whose word an end waits for; whether the region was taken over and does not know all yet.
    epoch       integer NOT NULL DEFAULT 1,
    guards      integer[] NOT NULL DEFAULT '{}',
    fenced      boolean NOT NULL DEFAULT false
);

-- What a region has taken over from a peer that was lost; written by the taker, seen by all.
CREATE TABLE takeovers (
    home         integer NOT NULL,
    generation   integer NOT NULL,
    region       integer NOT NULL,
    begun_at     bigint NOT NULL,
    -- The home's changes come in no more.
    cut_at       bigint,
    -- Everything is decided: whoever reads this has all decisions before it.
    completed_at bigint,
    -- The home is back and was told everything: it goes on with what is its own.
    returned_at  bigint,
    transactions integer NOT NULL DEFAULT 0,
    PRIMARY KEY (home, generation, region)
);

-- How far what came from other regions was compared with our own ends, by their journals; ours alone, never published.
CREATE TABLE seen (
    writer    integer NOT NULL,
    journal   integer NOT NULL,
    chain_seq bigint NOT NULL,
    PRIMARY KEY (writer, journal)
) WITH (fillfactor = 50);

-- Fencing tokens: a later process has a higher one.
CREATE SEQUENCE tokens;

-- A process writes to one journal at a time, by a lease; a process that has gone leaves it to the next one.
CREATE TABLE journals (
    writer      integer NOT NULL,
    journal     integer NOT NULL,
    -- Of the process that has it; NULL: nobody.
    token       bigint,
    lease_until timestamptz NOT NULL,
    -- The last batch and what its writes came to: how an unknown outcome is read back.
    batch       bytea NOT NULL DEFAULT '',
    outcomes    bytea NOT NULL DEFAULT '',
    chain_seq   bigint NOT NULL DEFAULT 0,
    chain_hash  bytea NOT NULL,
    -- Time of its newest event.
    latest      bigint,
    PRIMARY KEY (writer, journal)
) WITH (fillfactor = 30, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);

-- Tokens of processes that are gone and may have left something half-way.
CREATE TABLE orphans (
    token bigint PRIMARY KEY
);

-- Jobs that one process alone does, and which one.
CREATE TABLE leads (
    job         text PRIMARY KEY,
    token       bigint NOT NULL,
    lease_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The present state of each transaction: its home's cache of the fold over its events. A region that has taken a
-- transaction over writes a row of its own: the row of the highest epoch is the transaction.
CREATE TABLE transactions (
    id          uuid NOT NULL,
    client      text COLLATE "C" NOT NULL,
    region      integer NOT NULL,
    epoch       integer NOT NULL,
    version     integer NOT NULL,
    route       text NOT NULL,
    state       text NOT NULL,
    status      text NOT NULL,
    "end"       text,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    due_clock   text,
    due_at      bigint,
    sla_left    double precision,
    announced   text,
    definition  text,
    message_id  text,
    reference   text,
    reason      text,
    code        text,
    note        text,
    payments    integer NOT NULL,
    digest      bytea,
    answer      text,
    -- SHA-256 of the answer, from the intent to end on.
    answer_digest bytea,
    answer_due  boolean NOT NULL,
    attempt     integer NOT NULL,
    redrive_of  uuid,
    redriven_as uuid,
    approved_by text,
    flagged     boolean NOT NULL,
    -- Its payments settle only once all other regions have them, and none of those holds the same.
    everywhere  boolean NOT NULL,
    -- Token of the process that has it in hand.
    claim       bigint NOT NULL,
    PRIMARY KEY (id, region)
) PARTITION BY RANGE (id);
CREATE INDEX transactions_client ON transactions (client, id);
-- Whatever has no end has a clock that runs: what is in flight, and what is overdue.
CREATE INDEX transactions_due ON transactions (due_at) WHERE due_at IS NOT NULL;
-- Few come to nothing: they are found by their client, and by operators. What has settled is found by client and time.
CREATE INDEX transactions_failed ON transactions (client, status, id) WHERE status IN ('RJCT', 'CANC');
CREATE INDEX transactions_failed_all ON transactions (status, id) WHERE status IN ('RJCT', 'CANC');
-- What the operations desk must look at: next to nothing.
CREATE INDEX transactions_flagged ON transactions (id) WHERE flagged;
-- What somebody has in hand this moment; after a death, what must be taken over.
CREATE INDEX transactions_claim ON transactions (claim) WHERE state IN ('ACTC', 'ACSP', 'ending', 'handing');

-- Append-only. `content` is the event as canonical JSON; hash = SHA-256(previous || content). A region that takes a
-- transaction over writes its events so far again as its own, so that whoever has its rows has all of them.
CREATE TABLE events (
    tx        uuid NOT NULL,
    seq       integer NOT NULL,
    epoch     integer NOT NULL,
    writer    integer NOT NULL,
    journal   integer NOT NULL,
    chain_seq bigint NOT NULL,
    content   bytea NOT NULL,
    previous  bytea NOT NULL,
    hash      bytea NOT NULL,
    PRIMARY KEY (tx, seq, epoch, writer)
) PARTITION BY RANGE (tx);
CREATE INDEX events_chain ON events (writer, journal, chain_seq);

-- Immutable. kind: 0 inbox, 1 outbox; content is zstd (so not compressed again), digest is of the bytes received. seq and
-- epoch are of the event that it came with: an answer may be replaced until its end is a fact, and `answer_digest` says
-- which counts.
CREATE TABLE bodies (
    tx         uuid NOT NULL,
    kind       smallint NOT NULL,
    writer     integer NOT NULL,
    seq        integer NOT NULL,
    epoch      integer NOT NULL,
    definition text,
    digest     bytea NOT NULL,
    content    bytea NOT NULL,
    PRIMARY KEY (tx, kind, writer, seq, epoch)
) PARTITION BY RANGE (tx);
ALTER TABLE bodies ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE payments (
    tx             uuid NOT NULL,
    ordinal        integer NOT NULL,
    region         integer NOT NULL,
    instruction_id text,
    end_to_end_id  text,
    transaction_id text,
    uetr           text,
    amount         text,
    currency       text,
    status         text NOT NULL,
    reason         text,
    PRIMARY KEY (tx, ordinal, region)
) PARTITION BY RANGE (tx);

CREATE TABLE deliveries (
    tx      uuid NOT NULL,
    channel text NOT NULL,
    region  integer NOT NULL,
    state   text NOT NULL,
    at      bigint NOT NULL,
    PRIMARY KEY (tx, channel, region)
) PARTITION BY RANGE (tx);
CREATE INDEX deliveries_parked ON deliveries (tx) WHERE state = 'parked';

-- Names of messages and payments, never partitioned by time. `freed` is the null id for a key that is reserved (so it is
-- unique), else the tx that it only finds. A key reserved for a payment that was rejected or cancelled may be taken over:
-- whether it is free is read from the payment, in the transaction that takes it, so freeing costs no write.
CREATE TABLE keys (
    client  text COLLATE "C" NOT NULL,
    kind    text COLLATE "C" NOT NULL,
    value   text COLLATE "C" NOT NULL,
    freed   uuid NOT NULL,
    region  integer NOT NULL,
    tx      uuid NOT NULL,
    payment integer NOT NULL,
    PRIMARY KEY (client, kind, value, freed, region)
);

-- By time, for archiving.
CREATE INDEX keys_tx ON keys (tx);

CREATE TABLE idempotency (
    client text COLLATE "C" NOT NULL,
    key    text COLLATE "C" NOT NULL,
    region integer NOT NULL,
    digest bytea NOT NULL,
    tx     uuid NOT NULL,
    PRIMARY KEY (client, key, region)
);
CREATE INDEX idempotency_tx ON idempotency (tx);

-- Of each client and key one row a region that has written it; the one that was changed last counts.
CREATE TABLE clients (
    id          text NOT NULL,
    region      integer NOT NULL,
    name        text NOT NULL,
    secret_mac  bytea NOT NULL,
    scopes      text NOT NULL,
    created_at  bigint NOT NULL,
    disabled_at bigint,
    changed_at  bigint NOT NULL,
    PRIMARY KEY (id, region)
);

CREATE TABLE signing_keys (
    id          text NOT NULL,
    region      integer NOT NULL,
    private_pem bytea NOT NULL,
    created_at  bigint NOT NULL,
    retired_at  bigint,
    changed_at  bigint NOT NULL,
    PRIMARY KEY (id, region)
);

-- Append-only; the newest order for a scope and name stands.
CREATE TABLE controls (
    -- Higher than that of any order that its region had seen.
    seq     bigint NOT NULL,
    region  integer NOT NULL,
    scope   text NOT NULL,
    name    text NOT NULL,
    stopped boolean NOT NULL,
    actor   text NOT NULL,
    note    text,
    at      bigint NOT NULL,
    PRIMARY KEY (seq, region)
);

-- Periods whose rows were written to an archive and dropped: ids from `lower` to before `upper`.
CREATE TABLE archives (
    name        text PRIMARY KEY,
    lower       uuid NOT NULL,
    upper       uuid NOT NULL,
    -- SHA-256 of the archive as it was stored.
    digest      bytea NOT NULL,
    -- What the rows came to when they were written: an archive stands for them only as long as they come to the same.
    fingerprint text NOT NULL,
    archived_at bigint NOT NULL,
    -- Set while its rows are back in the database; they stay until they are dropped again by command.
    restored_at bigint,
    -- Set once the keys that refuse duplicates of its transactions were deleted too.
    forgotten_at bigint
);

-- What is left of the chain where events were archived: how each run of them was linked.
CREATE TABLE gaps (
    writer    integer NOT NULL,
    journal   integer NOT NULL,
    first_seq bigint NOT NULL,
    last_seq  bigint NOT NULL,
    previous  bytea NOT NULL,
    hash      bytea NOT NULL,
    archive   text NOT NULL REFERENCES archives (name),
    PRIMARY KEY (writer, journal, first_seq)
);
CREATE INDEX gaps_archive ON gaps (archive);

CREATE TABLE transactions_default PARTITION OF transactions DEFAULT;
CREATE TABLE events_default PARTITION OF events DEFAULT;
CREATE TABLE bodies_default PARTITION OF bodies DEFAULT;
CREATE TABLE payments_default PARTITION OF payments DEFAULT;
CREATE TABLE deliveries_default PARTITION OF deliveries DEFAULT;
