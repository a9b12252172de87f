#!/bin/sh
# Create a virtual environment with a Python of 3.11 or newer.  usage: venv.sh FOLDER [PYTHON]
folder=$1

new_enough() { "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

for python in ${2:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
    if new_enough "$python"; then
        echo "Creating $folder with $("$python" --version)."
        exec "$python" -m venv --clear "$folder"
    fi
done

cat >&2 <<MESSAGE
No suitable Python: the course needs Python 3.11 or newer with venv (tried: ${2:-python3, python3.11 to python3.14, python}).
  Debian, Ubuntu:  sudo apt install python3 python3-venv
  macOS:           brew install python@3.13
  Windows, or no administrator's rights:  the conda route in README.md
Another Python: make lab PYTHON=/path/to/python3
MESSAGE
exit 1
