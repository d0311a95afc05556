# shellcheck shell=bash
# A run in parts, each with its seconds and its result in the table at the end; a node for those
# that need one.

names=() results=() seconds=() failed=0
part() { # NAME COMMAND…
  local started=$SECONDS result=ok
  printf '\n=== %s\n' "$1"
  "${@:2}" || result=FAILED
  [[ $result == ok ]] || failed=1
  names+=("$1") results+=("$result") seconds+=($((SECONDS - started)))
  [[ $result == ok ]]
}
skip() { names+=("$1") results+=(skipped) seconds+=(0); }

run="$(basename "$0")-$$-$(date +%s)"
run_folder="$ODOOAI_RUN/runs/$run"
finish() {
  local status=$? i total=0
  trap - EXIT
  docker ps -aq --filter "label=odoo-ai-operator.test=$run" 2>/dev/null | xargs -r docker rm -fv >/dev/null || true
  rm -rf "$run_folder"
  docker_down "$run" || true
  printf '\n%-28s %8s  %s\n' part seconds result
  for i in "${!names[@]}"; do
    printf '%-28s %8d  %s\n' "${names[$i]}" "${seconds[$i]}" "${results[$i]}"
    total=$((total + seconds[i]))
  done
  printf '%-28s %8d  %s\n' total "$total" "$([[ $failed -eq 0 && $status -eq 0 ]] && echo ok || echo FAILED)"
  [[ $failed -eq 0 ]] || exit 1
  exit "$status"
}

cluster_up() {
  harness --run "$run" up && mapfile -t loaded < <(common_images) &&
    harness --run "$run" load "${loaded[@]}" "$(cat "$ODOOAI_RUN/operator-image")"
}

# with_cluster PART COMMAND…: a node of this run, and the command with it in its environment.
with_cluster() {
  local name="$1"
  shift
  # Whoever holds this lock is the run: when it is gone, so is its cluster.
  mkdir -p "$run_folder"
  exec {run_lock}>"$run_folder/lock"
  flock -n "$run_lock"
  if part "cluster" run_cluster; then
    ODOOAI_TEST_RUN="$run" ODOOAI_OPERATOR_IMAGE="$(cat "$ODOOAI_RUN/operator-image")" \
      part "$name" "$@"
  else
    skip "$name"
  fi
}
run_cluster() { cluster_up {run_lock}>&-; }

prepare() {
  docker_up "$run" $$
  part "go tools" hack/tools/build || return 1
  part "release binaries" hack/build || return 1
  part "images" hack/images || return 1
  part "harness" build_harness || return 1
}
