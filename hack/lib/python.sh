# shellcheck shell=bash
# What tests of the sample application and of the agent need on the host: Python, PostgreSQL, Redis.

# Servers for the tests start by hand; a Debian package would start its own.
need_test_servers() {
  need_command redis-server redis-server
  need_command node nodejs
  if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && ! command -v initdb >/dev/null; then
    is_debian_root || die "PostgreSQL's server programs are missing; please install them"
    mkdir -p /etc/postgresql-common
    [[ -e /etc/postgresql-common/createcluster.conf ]] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    apt_install postgresql
  fi
  python3 -c 'import ensurepip, venv' 2>/dev/null || { is_debian_root || die "python3 with venv is missing"; apt_install python3-venv; }
}

# The virtual environment with the sample application's pins: Alembic and Celery as it runs them.
sample_venv() { "$ROOT/tests/app/contract/venv"; }
