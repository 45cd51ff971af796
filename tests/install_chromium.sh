#!/bin/sh
# The tests look at the page of `edge-partition inspect --html` in a real browser. Install one where
# that may be done without asking; elsewhere say what is missing, and those tests say so again.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
if ! command -v apt-get >/dev/null; then
    echo "chromium is not installed; tests that need it will not run" >&2
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then sudo=; else sudo="sudo -n"; fi
{ $sudo apt-get update -q && $sudo apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core; } >/dev/null ||
    echo "chromium could not be installed; tests that need it will not run" >&2
