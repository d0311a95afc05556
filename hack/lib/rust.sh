# shellcheck shell=bash
# Where Rust builds go, and the release binaries.

rust_host() { rustc -vV | sed -n 's/^host: //p'; }

# By compiler only: Cargo itself notices a changed Cargo.lock, and most dependencies stay built.
# Cargo tells files apart by their dates and by their places in the workspace, but not by the workspace's
# own place: what another checkout built would pass for ours, with paths that lead there.
rust_target_dir() {
  local target
  target="$ODOOAI_CACHE/target-$(rustc -vV | sha256sum | cut -c1-12)"
  if [[ "$(cat "$target/checkout" 2>/dev/null)" != "$ROOT" ]]; then
    rm -rf "$target"/{,*/}{debug,release}/.fingerprint/odoo-ai-*
    mkdir -p "$target"
    echo "$ROOT" >"$target/checkout"
  fi
  echo "$target"
}

release_dir() { echo "$(rust_target_dir)/$(rust_host)/release"; }

build_release() {
  rustc -vV >/dev/null || die "rustc doesn't work (see above)"
  [[ "$(rust_host)" == *-linux-gnu ]] || die "the images hold Linux binaries: please build on Linux"
  CARGO_TARGET_DIR="$(rust_target_dir)" RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --manifest-path "$ROOT/Cargo.toml" --locked --release --target "$(rust_host)" \
    -p odoo-ai-operator -p odoo-ai-agent
}
