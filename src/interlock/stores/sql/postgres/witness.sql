-- The witness: a small database of its own, a row a region. Every change of an entry names the version that it was read
-- at; the lease is renewed beside that, by this server's clock.

-- name: install
CREATE TABLE IF NOT EXISTS interlock_entries (
    region        integer PRIMARY KEY,
    -- Of its last takeover. One counter for all regions: the next takeover's is one above all of them.
    generation    integer NOT NULL DEFAULT 0,
    -- Peers that may take it over, and the one that has.
    members       integer[] NOT NULL DEFAULT '{}',
    taker         integer,
    version       bigint NOT NULL DEFAULT 0,
    -- Given up for good.
    retired       boolean NOT NULL DEFAULT false,
    lease_until   timestamptz NOT NULL DEFAULT '-infinity',
    -- For how long the lease was given: one that ends later than that from now was given before the clock was set back.
    lease_seconds double precision NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- name: present
SELECT 1 FROM pg_class WHERE oid = to_regclass('interlock_entries');

-- name: ensure
INSERT INTO interlock_entries (region) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: entry
region, generation, members, taker, version, retired,
greatest(0, coalesce(extract(epoch FROM nullif({lease}, '-infinity') - clock_timestamp()), 0))::double precision

-- name: lease
least(lease_until, clock_timestamp() + lease_seconds * interval '1 second')

-- name: one
SELECT {entry} FROM interlock_entries WHERE region = $1;

-- name: all
SELECT {entry} FROM interlock_entries ORDER BY region;

-- name: change
UPDATE interlock_entries SET generation = $3, members = $4::integer[], taker = $5, version = $6, retired = $7
WHERE region = $1 AND version = $2;

-- name: renew
UPDATE interlock_entries SET lease_until = clock_timestamp() + $3 * interval '1 second', lease_seconds = $3
WHERE region = $1 AND generation <= $2 AND taker IS NULL AND NOT retired;

-- Takeovers go one after the other: the number of each is above all others, and who is taken over takes nobody over.
-- name: hold
SELECT {entry} FROM interlock_entries ORDER BY region FOR UPDATE;

-- A lease that was given before the clock was set back ends at the latest after its own length from now.
-- name: shorten
UPDATE interlock_entries SET lease_until = {lease} WHERE region = $1 AND lease_until > {lease};
