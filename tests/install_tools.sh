#!/bin/sh
# Installs what the tests start besides Python: a broker and its command line clients, a browser, a
# terminal multiplexer and Prometheus. It says what it is about to install; where it may not install,
# it says what is missing, and the tests that need that say so again.
set -eu

missing=
need() { # PACKAGES COMMAND...: the packages are missing unless one of the commands is there
    packages=$1
    shift
    for name in "$@"; do
        if command -v "$name" >/dev/null || test -x "/usr/sbin/$name"; then return 0; fi
    done
    missing="$missing $packages"
}

need "mosquitto" mosquitto
need "mosquitto-clients" mosquitto_rr
need "chromium fonts-dejavu-core" chromium chromium-browser google-chrome
need "tmux" tmux
need "prometheus" promtool

if [ -z "$missing" ]; then exit 0; fi
if ! command -v apt-get >/dev/null; then
    echo "Not installed:$missing. Tests that need one of these will not run." >&2
    exit 0
fi
echo "Installing with apt-get for the tests:$missing" >&2
if [ "$(id -u)" -eq 0 ]; then sudo=; else sudo="sudo -n"; fi
$sudo apt-get update -q >/dev/null || true
# One at a time: one that cannot be had must not keep the others away.
for package in $missing; do
    $sudo apt-get install -y -q --no-install-recommends "$package" >/dev/null ||
        echo "$package could not be installed; tests that need it will not run." >&2
done
