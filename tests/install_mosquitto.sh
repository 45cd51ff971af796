#!/bin/sh
# The tests cross a real broker and use its command line clients. Install both where that may be
# done without asking; elsewhere say what is missing, and the tests that need them say so again.
set -eu
if command -v mosquitto_rr >/dev/null && { command -v mosquitto || test -x /usr/sbin/mosquitto; } >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "mosquitto is not installed; tests that need it will not run" >&2
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then sudo=; else sudo="sudo -n"; fi
{ $sudo apt-get update -q && $sudo apt-get install -y -q --no-install-recommends mosquitto mosquitto-clients; } >/dev/null ||
    echo "mosquitto could not be installed; tests that need it will not run" >&2
