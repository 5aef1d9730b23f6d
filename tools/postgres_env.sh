#!/usr/bin/env bash
# Puts a PostgreSQL server's programs on this machine where they are absent, for `make test-postgres`. The tests start
# a server of their own with them; none is left running.
set -euo pipefail

if command -v initdb > /dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  echo "no initdb on this machine; type: sudo apt-get install --no-install-recommends postgresql" >&2
  echo "(elsewhere: install PostgreSQL 15 or later and put its programs on PATH)" >&2
  exit 1
fi
apt-get update -qq
mkdir -p /etc/postgresql-common  # Debian would start a cluster of its own
test -e /etc/postgresql-common/createcluster.conf || echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql
