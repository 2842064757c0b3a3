# lib.sh - what the scripts share: where things are, who runs the server, a private cluster.
#
# Sourced by bash scripts that stand beside it.  The server never runs as root: started by root it runs as the user
# postgres, else as whoever calls.  Clients run as the caller and reach it through a socket in the cluster's own folder,
# so no port is taken and no other server is met.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PG_MAJOR=15
if [ -z "${PG_CONFIG:-}" ]; then
    PG_CONFIG=pg_config
    if [ -e /etc/debian_version ]; then PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config; fi
fi
export PG_CONFIG
# runuser is there.
PATH=$PATH:/usr/sbin:/sbin
# Settings of the caller's own sessions do not belong here.
unset PGHOST PGHOSTADDR PGPORT PGDATABASE PGUSER PGPASSWORD PGOPTIONS PGSERVICE PGSSLMODE PGTZ PGCLIENTENCODING
# Nor does the flag of an outer make.
unset MAKEFLAGS MFLAGS MAKELEVEL

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "must be root, or have sudo, to run: $*"
    fi
}

# Runs a command as the user that owns the cluster.
as_server() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

# Sets the paths of the installed server; after install_deps.
find_server() {
    BINDIR=$("$PG_CONFIG" --bindir)
    PGXS_DIR=$(dirname "$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")")
    PATH=$BINDIR:$PATH
    export PATH
}

# Makes a temporary folder that the server's user owns: WORK.
make_work_dir() {
    WORK=$(mktemp -d "${TMPDIR:-/tmp}/kinesis.XXXXXX")
    chmod 755 "$WORK"
    if [ "$(id -u)" = 0 ]; then chown postgres "$WORK"; fi
    export HOME=$WORK
    cd "$WORK"
}

# cluster_start <extra lines of postgresql.conf>: a private cluster in $WORK/cluster, reached by PGHOST.
cluster_start() {
    local dir=$WORK/cluster
    as_server mkdir -p "$dir"
    as_server "$BINDIR/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --no-locale --no-sync >"$WORK/initdb.log" ||
        { cat "$WORK/initdb.log" >&2; return 1; }
    as_server tee -a "$dir/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = ''
unix_socket_directories = '$dir'
unix_socket_permissions = 0700
port = 5432
log_line_prefix = '%m [%p] %q%a '
lc_messages = 'C'
shared_preload_libraries = 'kinesis'
$1
CONF
    export PGHOST=$dir PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
    as_server "$BINDIR/pg_ctl" -D "$dir/data" -l "$dir/server.log" -s -w -t 60 start ||
        { tail -n 50 "$dir/server.log" >&2; return 1; }
}

cluster_stop() {
    local dir=${WORK:-/nonexistent}/cluster
    if [ -f "$dir/data/postmaster.pid" ]; then
        as_server "$BINDIR/pg_ctl" -D "$dir/data" -s -m immediate stop || true
    fi
}
