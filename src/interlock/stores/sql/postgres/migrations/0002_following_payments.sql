-- oldest: 2
-- A payment may follow its transaction: its status is NULL then, and it ends without being written. A process that does
-- not know this would take it for one without an end. `note` says why a payment was refused, in words.
ALTER TABLE payments ALTER COLUMN status DROP NOT NULL;
ALTER TABLE payments ADD COLUMN note text;
