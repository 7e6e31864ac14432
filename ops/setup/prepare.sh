# Sourced by ops/try and ops/test: makes sure that Neap can be built and trained here, and says what it does.
#
# Needs Debian 12 or a relative of it, with Rust. What is there already is left alone, so a second call does nothing.
# shellcheck shell=bash

FASHION_MNIST=/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz

say() { printf '\n==> %s\n' "$*"; }
fail() {
    printf '\nerror: %s\n' "$*" >&2
    exit 1
}

# Finds cargo, also where the shell has not been told of it yet.
find_rust() {
    if ! command -v cargo >/dev/null && [ -f "${HOME:-/root}/.cargo/env" ]; then
        # shellcheck disable=SC1091
        . "${HOME:-/root}/.cargo/env"
    fi
    command -v cargo >/dev/null || fail "no cargo on the path. Install Rust (https://rustup.rs), then run this again."
    # With rustup this fetches the version that rust-toolchain.toml names, if need be.
    cargo --version >/dev/null || fail "cargo does not start; rust-toolchain.toml asks for the version it names."
}

# Installs the packages that are missing: what the build needs, and the data of the main job.
install_packages() {
    local needed=() data=()
    command -v cc >/dev/null || needed+=(gcc libc6-dev)
    [ -e /etc/ssl/certs/ca-certificates.crt ] || needed+=(ca-certificates)
    [ -e "$FASHION_MNIST" ] || data+=(dataset-fashion-mnist)
    if [ ${#needed[@]} -eq 0 ] && [ ${#data[@]} -eq 0 ]; then
        say "system packages: all there"
        return
    fi
    say "system packages: installing ${needed[*]} ${data[*]}"
    if [ ${#needed[@]} -gt 0 ]; then
        apt_install "${needed[@]}" || echo "could not install ${needed[*]}" >&2
    fi
    if [ ${#data[@]} -gt 0 ]; then
        apt_install "${data[@]}" || echo "could not install ${data[*]}; going on without these data" >&2
    fi
    command -v cc >/dev/null || fail "there is no C compiler. Install one (Debian: apt-get install gcc libc6-dev), then run this again."
}

apt_install() {
    command -v apt-get >/dev/null || { echo "there is no apt-get here" >&2 && return 1; }
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "installing needs root or sudo" >&2 && return 1; }
        as_root=(sudo ${CI:+-n}) # nobody is there to type a password in CI
    fi
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=2)
    "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null
}

# The S3 server that checkpoints are tested against, in a folder of its own. It runs only while a test does.
MOTO_VERSION=5.2.5
install_s3_server() {
    local folder=target/moto
    if [ -x "$folder/bin/moto_server" ]; then
        return
    fi
    say "S3 server for tests: installing moto $MOTO_VERSION"
    command -v python3 >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv || true
    if ! { python3 -m venv "$folder" && "$folder/bin/pip" install -q "moto[s3]==$MOTO_VERSION" flask flask-cors; }; then
        rm -rf "$folder"
        [ "${CI:-}" != true ] || fail "moto could not be installed, and the tests need it here."
        echo "could not install moto; the tests that need an S3 server will say SKIPPED" >&2
    fi
}

# Mesa's software Vulkan, so that the tests of wgpu have an adapter where there is no card.
install_vulkan() {
    if ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' && compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null; then
        return
    fi
    say "software Vulkan for tests: installing mesa-vulkan-drivers libvulkan1"
    if ! apt_install mesa-vulkan-drivers libvulkan1; then
        [ "${CI:-}" != true ] || fail "mesa-vulkan-drivers could not be installed, and the tests need it here."
        echo "could not install mesa-vulkan-drivers; the tests of wgpu will say SKIPPED" >&2
    fi
}

prepare() {
    find_rust
    install_packages
}
