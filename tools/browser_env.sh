#!/usr/bin/env bash
# Looks for Chromium, which the tests marked browser drive; as root on Debian it installs the distribution's own.
# CHROMIUM names another one. Nothing else is fetched: playwright's own browsers are not used.
set -euo pipefail

chromium=${CHROMIUM:-/usr/bin/chromium}
if [ -x "$chromium" ]; then
  echo "Chromium: $chromium"
  exit 0
fi
if [ "$(id -u)" = 0 ] && [ -z "${CHROMIUM:-}" ] && command -v apt-get > /dev/null; then
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium fonts-dejavu-core
  exit 0
fi
echo "no Chromium at $chromium. Install it ('apt-get install chromium' as root), or set CHROMIUM to one" >&2
exit 1
