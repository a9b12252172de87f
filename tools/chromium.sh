#!/bin/sh
# Print the path of a Chromium that runs, installing one if there is none.  usage: chromium.sh PYTHON
# Order: $BROWSER_PATH, one that is installed, Playwright's earlier download, Debian's package, Playwright's download.
python=$1

works() { [ -n "$1" ] && "$1" --version >/dev/null 2>&1; } # Ubuntu's `chromium` can be an empty shell around snap

installed() {
    for name in chromium chromium-browser google-chrome-stable google-chrome \
        "/Applications/Chromium.app/Contents/MacOS/Chromium" \
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
        path=$(command -v "$name") && works "$path" && echo "$path" && return
    done
    return 1
}

downloaded() {
    path=$("$python" -c 'from playwright.sync_api import sync_playwright
with sync_playwright() as p:
    print(p.chromium.executable_path)' 2>/dev/null) && works "$path" && echo "$path"
}

debian() {
    command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || return 1
    echo "No Chromium found; installing Debian's package." >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends chromium fonts-liberation >&2 && installed
}

playwright() {
    echo "No Chromium found; Playwright downloads its own." >&2
    "$python" -m playwright install chromium >&2 && downloaded
}

if works "$BROWSER_PATH"; then
    echo "$BROWSER_PATH"
else
    installed || downloaded || debian || playwright || {
        echo "No Chromium, and none could be installed. Install chromium or Google Chrome, or set BROWSER_PATH=/path/to/it." >&2
        exit 1
    }
fi
