# shellcheck shell=bash
# Servers and clients from the Go module proxy, each built once per go.mod and go.sum.

tool_key() { cat "$ROOT/hack/tools/$1/go.mod" "$ROOT/hack/tools/$1/go.sum" | sha256sum | cut -c1-16; }
tool_dir() { echo "$ODOOAI_CACHE/tools/$1-$(tool_key "$1")"; }
tool_bin() { echo "$(tool_dir "$1")/bin"; }

tool_version() { awk -v module="$2" '$1 == module && $2 != "=>" { print $2; exit } $1 == "require" && $2 == module { print $3; exit }' "$ROOT/hack/tools/$1/go.mod"; }

tool_ldflags() {
  local version minor
  case "$1" in
    kubernetes)
      version="$(tool_version kubernetes k8s.io/kubernetes)"
      echo "-X k8s.io/component-base/version.gitVersion=$version"
      ;;
    helm)
      version="$(tool_version helm helm.sh/helm/v3)"
      # What `helm template` takes for the cluster's version, as Helm's own builds set it.
      minor="$(tool_version helm k8s.io/client-go | cut -d. -f2)"
      echo "-X helm.sh/helm/v3/internal/version.version=$version" \
        "-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1" \
        "-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=$minor"
      ;;
  esac
}

build_tool() {
  local name="$1" dir partial started
  dir="$(tool_dir "$name")"
  [[ -d $dir/bin ]] && return
  mkdir -p "$ODOOAI_CACHE/tools"
  # Two callers at once would build the same thing twice on the same two cores.
  exec {tool_lock}>"$ODOOAI_CACHE/tools/$name.lock"
  flock "$tool_lock"
  if [[ ! -d $dir/bin ]]; then
    started=$SECONDS
    say "building $name (once; kept in the cache)"
    partial="$(mktemp -d "$ODOOAI_CACHE/tools/.$name.XXXXXX")"
    (
      cd "$ROOT/hack/tools/$name"
      CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off GOBIN="$partial/bin" \
        go install -mod=readonly -trimpath -ldflags "-s -w $(tool_ldflags "$name")" tool
    ) || { rm -rf "$partial"; die "building $name failed"; }
    mkdir -p "$dir"
    mv "$partial/bin" "$dir/bin"
    echo $((SECONDS - started)) >"$dir/seconds"
    rm -rf "$partial"
    say "built $name in $(cat "$dir/seconds") s"
  fi
  exec {tool_lock}>&-
}
