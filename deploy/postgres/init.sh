#!/bin/bash
# Run once by the image, on an empty volume: the role and the database. The role owns its database and nothing else.
set -euo pipefail
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set password `cat /run/secrets/interlock_password`
CREATE ROLE interlock LOGIN PASSWORD :'password';
CREATE DATABASE interlock OWNER interlock;
REVOKE ALL ON DATABASE interlock FROM PUBLIC;
SQL
