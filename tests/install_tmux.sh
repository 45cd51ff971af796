#!/bin/sh
# The live terminal is driven in a real one. Install tmux where that may be done without asking;
# elsewhere say that it is missing, and the tests that need it say so again.
set -eu
if command -v tmux >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "tmux is not installed; tests that need it will not run" >&2
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then sudo=; else sudo="sudo -n"; fi
{ $sudo apt-get update -q && $sudo apt-get install -y -q --no-install-recommends tmux; } >/dev/null ||
    echo "tmux could not be installed; tests that need it will not run" >&2
