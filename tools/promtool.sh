#!/bin/sh
# Puts promtool into DIRECTORY: `tools/promtool.sh .tools/promtool`. It comes out of Debian's package of Prometheus, by apt
# as it is set up on this machine, and needs no root; nothing is installed. To raise it, look at `apt-cache policy prometheus`,
# run this, and take the sum that it complains of.
set -eu
VERSION='2.42.0+ds-5+deb12u1'
SHA256_amd64=81d59a24fce84f7fbe97a45a4f2914b6a5881b5cd1db2a6a0e129e515e1a5f55

directory=$1
machine=$(dpkg --print-architecture) || { echo "promtool comes as a Debian package, and there is no dpkg here" >&2; exit 1; }
eval "sum=\${SHA256_$machine:-}"
[ -n "$sum" ] || { echo "no sum is known of prometheus $VERSION for $machine: add it to $0" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch() { (cd "$work" && apt-get download "prometheus=$VERSION" >log 2>&1); }
if ! fetch; then
    # A machine that never looked for packages does not know of any.
    if [ "$(id -u)" = 0 ]; then apt-get update >"$work/update" 2>&1 || true; fi
    fetch || { echo "apt cannot get prometheus $VERSION:" >&2; cat "$work/log" >&2; exit 1; }
fi
echo "$sum  $(echo "$work"/prometheus_*.deb)" | sha256sum --check --quiet
dpkg -x "$work"/prometheus_*.deb "$work/package"
mkdir -p "$directory"
install -m 755 "$work/package/usr/bin/promtool" "$directory/promtool"
