#!/usr/bin/env bash
# Makes or renews the virtual environment .venv with the package, napari and the development tools.
# Usage: scripts/environment.sh [extras]     PYTHON=python3.12 chooses the interpreter of a new environment.
set -euo pipefail
cd "$(dirname "$0")/.."
extras="${1:-all,dev}"

newest_python() {
    local name
    for name in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$name"
            return
        fi
    done
    echo "No Python 3.11 or later was found. napari needs one. Install it, or name it: make test PYTHON=/path/to/python" >&2
    return 1
}

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python="$(newest_python)"
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        version="$("$python" -c 'import sys; print("{}.{}".format(*sys.version_info))')"
        echo "$python cannot make virtual environments. On Debian and Ubuntu run: sudo apt-get install -y python${version}-venv" >&2
        exit 1
    fi
    "$python" -m venv --clear .venv
fi
echo "Installing .[$extras] into .venv (about 2.5 GB; some minutes the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extras]"
