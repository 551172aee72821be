# What tests and benchmarks need of a system; read by tests/run and tests/bench/run with `source`. Each function sets one thing
# up where it may (as root on Debian), or says what to install and fails.

need_cargo() {
    if ! command -v cargo >/dev/null; then
        echo "$0: there is no Rust toolchain here; https://rustup.rs tells how to install one" >&2
        exit 1
    fi
}

# SQLite comes as C source and is compiled with the rest.
need_compiler() {
    if ! command -v "${CC:-cc}" >/dev/null; then
        if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
            echo "$0: installing a C compiler (for the SQLite that is built in)" >&2
            export DEBIAN_FRONTEND=noninteractive
            apt-get update -qq </dev/null >&2
            apt-get install -y -qq --no-install-recommends gcc libc6-dev </dev/null >&2
        else
            echo "$0: there is no C compiler (${CC:-cc}), which the SQLite that is built in needs; install gcc or clang" >&2
            exit 1
        fi
    fi
}

# A Postgres is run in a folder that is made and removed (tests/server).
need_postgres() {
    if ! command -v initdb >/dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
        if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
            echo "$0: installing Postgres (for stores and states in it)" >&2
            export DEBIAN_FRONTEND=noninteractive
            # Debian's package would make and start a server of the system's, which nobody here asked for.
            if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
                mkdir -p /etc/postgresql-common
                echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
            fi
            apt-get update -qq </dev/null >&2
            apt-get install -y -qq --no-install-recommends postgresql </dev/null >&2
        else
            echo "$0: there is no Postgres server (initdb), which tests start; install the package postgresql" >&2
            exit 1
        fi
    fi
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
