# shellcheck shell=bash
# Images, each built once per content: the tag odooai-test/cache:<what>-<hash> says that it is there.

IMAGE_CACHE=odooai-test/cache

image_exists() { docker image inspect "$1" >/dev/null 2>&1; }

# Docker Hub is asked once per run; without it the stand-ins are built.
docker_hub_answers() {
  if [[ -z ${ODOOAI_DOCKER_HUB:-} ]]; then
    ODOOAI_DOCKER_HUB=no
    timeout 5 docker manifest inspect debian:bookworm-slim >/dev/null 2>&1 && ODOOAI_DOCKER_HUB=yes
    export ODOOAI_DOCKER_HUB
  fi
  [[ $ODOOAI_DOCKER_HUB == yes ]]
}

# The proxy of the host, which Docker hands to RUN without storing it in the image.
proxy_args() {
  local name
  for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    [[ -z ${!name:-} ]] || printf '%s\n' --build-arg "$name=${!name}"
  done
}

# cached_image STABLE_TAG WHAT HASH COMMAND…: COMMAND gets the tag that it has to make.
cached_image() {
  local stable="$1" what="$2" key="$IMAGE_CACHE:$2-$3" started=$SECONDS log old
  shift 3
  if ! image_exists "$key"; then
    log="$ODOOAI_CACHE/logs/image-$what.log"
    mkdir -p "$ODOOAI_CACHE/logs"
    "$@" "$key" >"$log" 2>&1 || die "building the image $stable failed:
$(tail -40 "$log")"
    say "  image $stable: $((SECONDS - started)) s"
    while read -r old; do
      [[ $old == "$key" || ! $old =~ -[0-9a-f]{16}$ ]] || docker rmi "$old" >/dev/null 2>&1 || true
    done < <(docker images --filter "reference=$IMAGE_CACHE:$what-????????????????" --format '{{.Repository}}:{{.Tag}}')
  fi
  docker tag "$key" "$stable"
}

# docker_build CONTEXT [ARGUMENTS…] TAG
docker_build() {
  local context="$1" tag="${*: -1}" proxies
  mapfile -t proxies < <(proxy_args)
  docker build "${proxies[@]}" "${@:2:$#-2}" -t "$tag" "$context"
}

# --- base images -------------------------------------------------------------------------------

root_image() { # SUITE TAG
  local suite="$1" tag="$2" folder mirror
  if docker_hub_answers; then
    docker pull "debian:$suite-slim" && docker tag "debian:$suite-slim" "$tag"
    return
  fi
  need_command debootstrap debootstrap
  # shellcheck disable=SC2016 # a template of apt
  mirror="$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -v security | head -1)"
  folder="$(mktemp -d "$ODOOAI_CACHE/.debootstrap.XXXXXX")"
  # shellcheck disable=SC2086 # no mirror found means no argument
  debootstrap --variant=minbase --include=ca-certificates "$suite" "$folder" ${mirror:+"$mirror"} &&
    rm -rf "$folder"/var/cache/apt/archives/*.deb "$folder"/var/lib/apt/lists/* \
      "$folder"/usr/share/{doc,man,locale}/* &&
    tar -C "$folder" --one-file-system -c . | docker import --change 'CMD ["bash"]' - "$tag"
  local result=$?
  rm -rf --one-file-system "$folder"
  return $result
}

# What the host needs to reach its package registries, images need too; nothing of it is committed.
host_registry_config() { # FOLDER
  local registry
  mkdir -p "$1/ca"
  cp /usr/local/share/ca-certificates/*.crt "$1/ca/" 2>/dev/null || true
  : >"$1/apt.conf"
  : >"$1/npmrc"
  : >"$1/pip.conf"
  if command -v apt-config >/dev/null; then
    apt-config dump | grep -E '^Acquire::(Check|Retries|https?::)' >"$1/apt.conf" || true
  fi
  cat /etc/pip.conf >"$1/pip.conf" 2>/dev/null || true
  if [[ -n ${PIP_INDEX_URL:-} ]]; then
    printf '[global]\nindex-url = %s\ncert = /etc/ssl/certs/ca-certificates.crt\n' "$PIP_INDEX_URL" >"$1/pip.conf"
  fi
  if command -v npm >/dev/null; then
    registry="$(npm config get registry 2>/dev/null || true)"
    [[ $registry != http* ]] || echo "registry=$registry" >"$1/npmrc"
  fi
}

base_image() { # SUITE
  local suite="$1" context root_tag="odooai-test/root:$1"
  cached_image "$root_tag" "root-$suite" "$(echo "$suite-1" | sha256sum | cut -c1-16)" root_image "$suite"
  context="$(mktemp -d "$ODOOAI_RUN/base.XXXXXX")"
  cp "$ROOT/tests/images/base/Dockerfile" "$context/"
  host_registry_config "$context"
  cached_image "odooai-test/base:$suite" "base-$suite" \
    "$({ content_hash "$context"; docker image inspect -f '{{.Id}}' "$root_tag"; } | sha256sum | cut -c1-16)" \
    docker_build "$context" --build-arg "ROOT=$root_tag"
  rm -rf "$context"
}

# --- what the cluster needs -----------------------------------------------------------------------

id_of() { docker image inspect -f '{{.Id}}' "$1"; }

# key_of FILES…: a hash that also changes with the image that it is built from.
key_of() { # BASE FILES…
  { id_of "$1"; content_hash "${@:2}"; } | sha256sum | cut -c1-16
}

from_scratch_image() { # BINARY COMMAND… TAG: an image of one static binary
  local context binary="$1" tag="${*: -1}"
  context="$(mktemp -d "$ODOOAI_RUN/scratch.XXXXXX")"
  cp "$binary" "$context/"
  printf 'FROM scratch\nCOPY %s /\nENTRYPOINT ["/%s"]\n' "$(basename "$binary")" "$(basename "$binary")" >"$context/Dockerfile"
  docker_build "$context" "$tag"
  rm -rf "$context"
}

busybox_images() {
  local folder="$ROOT/tests/images/busybox"
  cached_image odooai-test/busybox:1 busybox "$(key_of odooai-test/base:bookworm "$folder")" \
    docker_build "$folder" --build-arg BASE=odooai-test/base:bookworm
  docker tag odooai-test/busybox:1 odooai-test/pause:1
}

node_context() { # FOLDER
  mkdir -p "$1/bin" "$1/images"
  cp -r "$ROOT"/tests/node/. "$1/"
  cp -l "$(tool_bin kubernetes)"/* "$1/bin/" 2>/dev/null || cp "$(tool_bin kubernetes)"/* "$1/bin/"
  docker save -o "$1/images/1-busybox.tar" odooai-test/pause:1 odooai-test/busybox:1
  docker save -o "$1/images/2-coredns.tar" odooai-test/coredns:1
  docker save -o "$1/images/3-local-path.tar" odooai-test/local-path:1
}

node_build() { # TAG
  local context
  context="$(mktemp -d "$ODOOAI_CACHE/.node.XXXXXX")"
  node_context "$context"
  docker_build "$context" --build-arg BASE=odooai-test/base:bookworm "$1"
  rm -rf "$context"
}

# Sets NODE_IMAGE: k3s where it can be pulled, else a node of our own.
node_image() {
  local k3s
  k3s="rancher/k3s:$(tool_version kubernetes k8s.io/kubernetes)-k3s1"
  if docker_hub_answers && { image_exists "$k3s" || docker pull -q "$k3s" >/dev/null; }; then
    NODE_IMAGE="$k3s"
    return
  fi
  base_image bookworm
  busybox_images
  build_tool kubernetes
  build_tool coredns
  build_tool local-path
  cached_image odooai-test/coredns:1 coredns "$(tool_key coredns)" from_scratch_image "$(tool_bin coredns)/coredns"
  cached_image odooai-test/local-path:1 local-path "$(tool_key local-path)" \
    from_scratch_image "$(tool_bin local-path)/local-path-provisioner"
  NODE_IMAGE=odooai-test/node:1
  cached_image "$NODE_IMAGE" node "$({
    tool_key kubernetes
    tool_key coredns
    tool_key local-path
    id_of odooai-test/busybox:1
    key_of odooai-test/base:bookworm "$ROOT/tests/node"
  } | sha256sum | cut -c1-16)" node_build
}

# Traefik, its own CRDs and rights as its release has them, and an ACME server: for the tests of routes.
traefik_image() {
  local folder="$ODOOAI_RUN/traefik" module
  build_tool traefik
  cached_image odooai-test/traefik:1 traefik "$(tool_key traefik)" from_scratch_image "$(tool_bin traefik)/traefik"
  build_tool pebble
  cached_image odooai-test/pebble:1 pebble "$(tool_key pebble)" from_scratch_image "$(tool_bin pebble)/pebble"
  module="$(cd "$ROOT/hack/tools/traefik" && go mod download -json github.com/traefik/traefik/v3 | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')"
  mkdir -p "$folder"
  install -m 644 "$module/docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml" "$folder/crds.yaml"
  install -m 644 "$module/docs/content/reference/dynamic-configuration/kubernetes-crd-rbac.yml" "$folder/rbac.yaml"
}

# data_image TAG WHAT SUITE FOLDERS…: the official image, or our stand-in under its name.
data_image() {
  local tag="$1" what="$2" base="odooai-test/base:$3"
  shift 3
  if docker_hub_answers; then
    image_exists "$tag" || docker pull -q "$tag" >/dev/null
    return
  fi
  base_image "${base#*:}"
  cached_image "$tag" "$what" "$(key_of "$base" "$@")" data_build "$base" "$@"
}

data_build() { # BASE FOLDERS… TAG
  local context base="$1" tag="${*: -1}"
  context="$(mktemp -d "$ODOOAI_RUN/data.XXXXXX")"
  cp "${@:2:$#-2}" "$context/"
  docker_build "$context" --build-arg "BASE=$base" "$tag"
  rm -rf "$context"
}

data_images() {
  local images="$ROOT/tests/images"
  data_image postgres:15 postgres-15 bookworm "$images/postgres/15/Dockerfile" "$images/postgres/entrypoint"
  data_image postgres:17 postgres-17 trixie "$images/postgres/17/Dockerfile" "$images/postgres/entrypoint"
  data_image redis:7 redis-7 bookworm "$images/redis/Dockerfile" "$images/redis/entrypoint"
}

app_versions() { sed 's/#.*//' "$ROOT/tests/app/versions" | tr -d ' \t' | grep -v '^$'; }

app_images() {
  local name version key
  [[ -e $ROOT/tests/app/versions ]] || return 0
  base_image trixie
  for name in ai-service dashboard odoo-stub; do
    [[ -e $ROOT/tests/app/$name/Dockerfile ]] || continue
    key="$(key_of odooai-test/base:trixie "$ROOT/tests/app/$name")"
    while read -r version; do
      cached_image "odoo-ai-platform/$name:$version" "$name-$version" "$key" \
        docker_build "$ROOT/tests/app/$name" --build-arg BASE=odooai-test/base:trixie --build-arg "VERSION=$version"
    done < <(app_versions)
  done
}

project_version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml"; }

# Sets OPERATOR_IMAGE. The tag holds the content's hash, so that an upgrade sees a new binary.
operator_image() {
  local context key tag
  base_image trixie
  context="$ODOOAI_RUN/operator-image"
  rm -rf "$context"
  mkdir -p "$context"
  cp "$(release_dir)/odoo-ai-operator" "$context/operator"
  cp "$(release_dir)/agent" "$context/agent"
  cp "$ROOT/hack/docker/operator.Dockerfile" "$context/Dockerfile"
  key="$(key_of odooai-test/base:trixie "$context")"
  tag="atmatasolutions/odoo-ai-operator:$(project_version)"
  OPERATOR_IMAGE="$tag-${key:0:12}"
  cached_image "$OPERATOR_IMAGE" operator "$key" docker_build "$context" --build-arg BASE=odooai-test/base:trixie
  docker tag "$OPERATOR_IMAGE" "$tag"
  rm -rf "$context"
}

loadable_images() {
  local name version
  printf '%s\n' postgres:15 postgres:17 redis:7
  [[ -e $ROOT/tests/app/versions ]] || return 0
  for name in ai-service dashboard odoo-stub; do
    [[ -e $ROOT/tests/app/$name/Dockerfile ]] || continue
    while read -r version; do echo "odoo-ai-platform/$name:$version"; done < <(app_versions)
  done
}

# The S3 server of the tests of backups.
versitygw_image() {
  build_tool versitygw
  cached_image odooai-test/versitygw:1 versitygw "$(tool_key versitygw)" from_scratch_image "$(tool_bin versitygw)/versitygw"
}

# What most of a cluster's life needs: the sample's release and the one after it. Suites load the
# misbehaving ones themselves, because each takes the node about a second.
common_images() { loadable_images | grep -E '^(postgres|redis):|:1\.[01]\.0$'; }
