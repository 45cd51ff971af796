#!/bin/sh
# The tests have a real Prometheus scrape the monitor and check the alert rules. Install it where that
# may be done without asking; elsewhere say what is missing, and those tests say so again.
set -eu
if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "prometheus is not installed; tests that need it will not run" >&2
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then sudo=; else sudo="sudo -n"; fi
{ $sudo apt-get update -q && $sudo apt-get install -y -q --no-install-recommends prometheus; } >/dev/null ||
    echo "prometheus could not be installed; tests that need it will not run" >&2
