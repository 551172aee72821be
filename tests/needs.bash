# What tests and benchmarks need of a system; read by tests/run and tests/bench/run with `source`. Each function sets one thing
# up where it may (as root on Debian), or says what to install and fails.

# Installs Debian packages where that may be done, or says what to install, and fails: `packages FOR WHAT-IS-MISSING PACKAGE...`.
packages() {
    local purpose=$1 missing=$2
    shift 2
    if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
        echo "$0: installing $* (for $purpose)" >&2
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq </dev/null >&2
        apt-get install -y -qq --no-install-recommends "$@" </dev/null >&2
    else
        echo "$0: there is no $missing, which is needed for $purpose; install $*" >&2
        exit 1
    fi
}

need_cargo() {
    if ! command -v cargo >/dev/null; then
        echo "$0: there is no Rust toolchain here; https://rustup.rs tells how to install one" >&2
        exit 1
    fi
}

# SQLite comes as C source and is compiled with the rest.
need_compiler() {
    command -v "${CC:-cc}" >/dev/null || packages "the SQLite that is built in" "C compiler (${CC:-cc})" gcc libc6-dev
}

# A Postgres is run in a folder that is made and removed (tests/server).
need_postgres() {
    if ! command -v initdb >/dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
        # Debian's package would make and start a server of the system's, which nobody here asked for.
        if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
            mkdir -p /etc/postgresql-common
            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
        fi
        packages "stores and states in Postgres" "Postgres server (initdb)" postgresql
    fi
}

# The pooler that stands in for Supabase's: tests start it on the loopback address. Its package would start a service of the system's.
need_pgbouncer() {
    if ! command -v pgbouncer >/dev/null && [ ! -x /usr/sbin/pgbouncer ]; then
        if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
            echo "$0: installing pgbouncer (for stores behind a pooler)" >&2
            export DEBIAN_FRONTEND=noninteractive
            local policy=/usr/sbin/policy-rc.d ours=
            if [ ! -e "$policy" ]; then
                printf '#!/bin/sh\nexit 101\n' >"$policy"
                chmod +x "$policy"
                ours=1
            fi
            local done=0
            { apt-get update -qq && apt-get install -y -qq --no-install-recommends pgbouncer; } </dev/null >&2 || done=$?
            if [ -n "$ours" ]; then rm -f "$policy"; fi
            if [ "$done" -ne 0 ]; then
                echo "$0: pgbouncer could not be installed" >&2
                exit 1
            fi
        else
            echo "$0: there is no pgbouncer, which tests start; install the package pgbouncer" >&2
            exit 1
        fi
    fi
}

# Certificates for a Postgres with TLS.
need_openssl() {
    command -v openssl >/dev/null || packages "certificates of tests" "openssl" openssl
}

# Where the BigQuery emulator is kept, for all working copies.
bigquery_emulator_folder() {
    echo "${XDG_CACHE_HOME:-$HOME/.cache}/trueup-tests/bigquery-0.3.2"
}

# A Python of the one version that the emulator runs on.
python_3_13() {
    local found
    for found in "$(command -v python3.13)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13.*/bin/python \
        "$(command -v uv >/dev/null && uv python find 3.13 2>/dev/null)"; do
        if [ -x "$found" ] && "$found" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null; then
            echo "$found"
            return
        fi
    done
    return 1
}

# A BigQuery emulator, which tests start and end (tests/emulator). It works offline only with its database's extensions at hand.
need_bigquery_emulator() {
    local folder python
    folder=$(bigquery_emulator_folder)
    [ -e "$folder/ready" ] && return
    mkdir -p "$folder"
    (
        flock 9
        [ -e "$folder/ready" ] && exit 0
        if ! python=$(python_3_13) && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
            export DEBIAN_FRONTEND=noninteractive
            apt-get update -qq </dev/null >&2 || true
            apt-get install -y -qq --no-install-recommends python3.13 python3.13-venv </dev/null >&2 || true
        fi
        if ! python=$(python_3_13); then
            echo "$0: the BigQuery emulator that tests start runs on Python 3.13, which is not here; install python3.13 with venv (or pyenv install 3.13)" >&2
            exit 1
        fi
        echo "$0: installing a BigQuery emulator (for stores in BigQuery)" >&2
        "$python" -m venv --clear "$folder/venv" >&2
        "$folder/venv/bin/pip" install -q local-bigquery==0.3.2 duckdb==1.5.5 duckdb-extension-icu==1.5.5 \
            duckdb-extension-ducklake==1.5.5 duckdb-extension-spatial==1.5.5 </dev/null >&2 || {
            echo "$0: the BigQuery emulator could not be installed; pip says why above" >&2
            exit 1
        }
        platform=$("$folder/venv/bin/python" -c 'import duckdb; print(duckdb.sql("PRAGMA platform").fetchone()[0])')
        extensions="$folder/home/.duckdb/extensions/v1.5.5/$platform"
        mkdir -p "$extensions"
        find "$folder/venv" -name '*.duckdb_extension' -exec cp {} "$extensions/" \;
        touch "$folder/ready"
    ) 9>"$folder/lock"
}

# A Prometheus is run beside a controller, and `promtool` checks the alert rules. Debian's package would start a service of the system's:
# only its two programs are taken out of it.
need_prometheus() {
    if command -v prometheus >/dev/null && command -v promtool >/dev/null; then return; fi
    if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
        echo "$0: installing Prometheus's two programs (for alert rules and dashboards)" >&2
        local folder
        folder=$(mktemp -d)
        apt-get update -qq </dev/null >&2
        (cd "$folder" && apt-get download -qq prometheus </dev/null >&2 && dpkg-deb -x prometheus_*.deb out)
        install -m 755 "$folder/out/usr/bin/prometheus" "$folder/out/usr/bin/promtool" /usr/local/bin/
        rm -rf "$folder"
    else
        echo "$0: there is no Prometheus (prometheus, promtool), which tests run; install the package prometheus" >&2
        exit 1
    fi
}

# A browser without a window, which tests tell what to do.
need_browser() {
    command -v chromedriver >/dev/null || packages "the page for people" "Chromium with chromedriver" chromium chromium-driver
}
