#!/bin/sh
# Find a usable Python and let devstack/setup.py do the rest. PYTHON=… names one.
set -eu
cd "$(dirname "$0")/.."
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH || true

version_ok='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))'
without_venv=
for python in ${PYTHON:-python3 python3.12 python3.13 python3.11 python3.14}; do
    "$python" -c "$version_ok" >/dev/null 2>&1 || continue
    if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        exec "$python" -m devstack.setup "$@"
    fi
    without_venv=$python
done

if [ -n "$without_venv" ]; then
    echo "setup: $without_venv has no venv module; on Debian or Ubuntu: apt install python3-venv" >&2
else
    echo "setup: Python 3.11, 3.12, 3.13 or 3.14 is needed${PYTHON:+ ($PYTHON is not one)}; found none." >&2
fi
exit 1
