# shellcheck shell=bash
# The harness of tests/ as a command, and the tools it finds.

# Workspace-wide features, so that this and the tests share one build of every dependency.
build_harness() {
  CARGO_TARGET_DIR="$(rust_target_dir)" cargo build --manifest-path "$ROOT/Cargo.toml" --locked \
    --workspace --bin cluster
}

harness_environment() {
  export ODOOAI_TOOL_KUBERNETES ODOOAI_TOOL_HELM
  ODOOAI_TOOL_KUBERNETES="$(tool_bin kubernetes)"
  ODOOAI_TOOL_HELM="$(tool_bin helm)"
}

harness() { "$(rust_target_dir)/debug/cluster" "$@"; }

up_kubeconfig() { echo "${ODOOAI_KUBECONFIG:-$ODOOAI_RUN/runs/up/kubeconfig}"; }

# The pinned kubectl, or one of the machine where k3s made building Kubernetes unnecessary.
kubectl_binary() {
  local built
  built="$(tool_bin kubernetes)/kubectl"
  if [[ -x $built ]]; then
    echo "$built"
  elif command -v kubectl >/dev/null; then
    command -v kubectl
  else
    build_tool kubernetes
    echo "$built"
  fi
}
