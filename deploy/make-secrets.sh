#!/bin/sh
# Makes the secrets that compose.yaml mounts, in deploy/secrets. What is there already stays: without the same server.key
# no client could log in any more. Keep a copy of the folder where your other secrets are.
set -eu
folder="$(dirname "$0")/secrets"
umask 077
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

[ -s server.key ] || openssl rand 32 > server.key
[ -s postgres_password ] || openssl rand -hex 32 > postgres_password
[ -s interlock_password ] || openssl rand -hex 32 > interlock_password
printf '[interlock]\npassword=%s\n' "$(cat interlock_password)" > pg_service.conf

# The folder keeps everybody else on this machine out. The files are mounted into containers one by one, where users with
# other numbers must be able to read them.
chmod 444 ./*
echo "in $(pwd):" *
