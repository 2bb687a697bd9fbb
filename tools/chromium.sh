#!/bin/sh
# Puts chromium into DIRECTORY: `tools/chromium.sh .tools/browser`. A link to the one that is installed; where there is none,
# root has apt install Debian's, of whatever version Debian has now: apt checks its signature, and the tests need no certain one.
set -eu

directory=$1
installed() { command -v chromium || command -v chromium-browser; }
if ! found=$(installed); then
    if [ "$(id -u)" != 0 ]; then
        echo "there is no chromium here, and only root may install it: apt-get install chromium" >&2
        exit 1
    fi
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    install() { apt-get install --yes --no-install-recommends chromium >"$work/log" 2>&1; }
    if ! install; then
        # A machine that never looked for packages does not know of any.
        apt-get update >"$work/update" 2>&1 || true
        install || { echo "apt cannot install chromium:" >&2; cat "$work/log" >&2; exit 1; }
    fi
    found=$(installed)
fi
mkdir -p "$directory"
ln -sf "$found" "$directory/chromium"
