#!/bin/sh
# Installs the programs that the tests start: a broker and its command-line clients, a browser, a
# terminal multiplexer and Prometheus. The script names the packages before it installs them. Without
# the right to install, it names the missing packages; the tests that need them report this again.
set -eu

missing=
need() { # PACKAGES COMMAND...: the packages are missing unless one of the commands exists
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
    echo "Not installed, because apt-get is missing:$missing. Tests that need these programs will not run." >&2
    exit 0
fi
echo "Installing the tests' programs with apt-get:$missing" >&2
if [ "$(id -u)" -eq 0 ]; then sudo=; else sudo="sudo -n"; fi
$sudo apt-get update -q >/dev/null || true
# One at a time, so that an unavailable package does not stop the others.
for package in $missing; do
    $sudo apt-get install -y -q --no-install-recommends "$package" >/dev/null ||
        echo "apt-get could not install $package. Tests that need $package will not run." >&2
done
