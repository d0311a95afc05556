# shellcheck shell=bash
# What every script of hack/ shares: where things are, and how to say what happens.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
ODOOAI_CACHE="${ODOOAI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/odoo-ai-operator}"
ODOOAI_RUN="$ODOOAI_CACHE/run"
export ROOT ODOOAI_CACHE ODOOAI_RUN
mkdir -p "$ODOOAI_CACHE" "$ODOOAI_RUN"

say() { printf '%s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Hash of the content (not the dates, nor the place) of files and folders, short enough for a tag.
content_hash() {
  local path
  for path in "$@"; do
    if [[ -d $path ]]; then
      (cd "$path" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum)
    else
      sha256sum <"$path"
    fi
  done | sha256sum | cut -c1-16
}

is_debian_root() { [[ $EUID -eq 0 && -e /etc/debian_version ]]; }

# Installs Debian packages for commands that are missing: need_command COMMAND PACKAGE.
need_command() {
  command -v "$1" >/dev/null && return
  is_debian_root || die "'$1' is missing; please install it (on Debian: the package '$2')"
  say "installing $2 (for '$1')"
  apt_install "$2"
}

apt_install() {
  local log="$ODOOAI_RUN/apt.log"
  {
    apt-get update -qq &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
  } >"$log" 2>&1 || die "apt-get install $* failed:
$(tail -20 "$log")"
}

need_toolchains() {
  command -v go >/dev/null || die "Go 1.24 or newer is needed: https://go.dev/dl/"
  command -v cargo >/dev/null || die "Rust 1.95 or newer is needed: https://rustup.rs/"
}
