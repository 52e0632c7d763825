-- oldest: 2
-- A payment may follow its transaction: its status is NULL then, and it ends without being written. A process that does
-- not know this would take it for one without an end. `note` says why a payment was refused, in words.
ALTER TABLE payments ALTER COLUMN status DROP NOT NULL;
ALTER TABLE payments ADD COLUMN note text;

-- A message too long for one piece: its row in `bodies` has no content, its parts are rows of `bodies` too, the first
-- with its kind + 2, the second with its kind + 4 and so on; so they are archived and replicated with it.

-- Messages of many payments that are being put down and do not count yet: while a row is here nobody sees its payments,
-- and whoever wants its keys may take them. Ours alone, never published.
CREATE TABLE stagings (
    tx     uuid PRIMARY KEY,
    client text COLLATE "C" NOT NULL,
    -- Of the process that has it in hand.
    token  bigint NOT NULL
);

-- Payments of them whose key somebody else has taken.
CREATE TABLE staging_losses (
    tx      uuid NOT NULL,
    payment integer NOT NULL,
    kind    text NOT NULL,
    value   text NOT NULL,
    PRIMARY KEY (tx, payment, kind)
);
