#!/usr/bin/env bash
# Makes sure that Qt's and OpenGL's system libraries are there and, without a screen, the virtual one (Xvfb).
# Installs what is missing with apt-get where it may (root, or sudo without a password), else prints the line
# to run and stops. Linux only: on macOS and Windows the Qt wheels need nothing more.
set -euo pipefail
[ "$(uname)" = Linux ] || exit 0
PATH="$PATH:/usr/sbin:/sbin"

# library, Debian package
libraries="
libEGL.so.1              libegl1
libGL.so.1               libgl1
libdbus-1.so.3           libdbus-1-3
libfontconfig.so.1       libfontconfig1
libglib-2.0.so.0         libglib2.0-0
libxcb-cursor.so.0       libxcb-cursor0
libxcb-icccm.so.4        libxcb-icccm4
libxcb-image.so.0        libxcb-image0
libxcb-keysyms.so.1      libxcb-keysyms1
libxcb-randr.so.0        libxcb-randr0
libxcb-render-util.so.0  libxcb-render-util0
libxcb-shape.so.0        libxcb-shape0
libxcb-xinerama.so.0     libxcb-xinerama0
libxcb-xkb.so.1          libxcb-xkb1
libxkbcommon-x11.so.0    libxkbcommon-x11-0
"

missing_packages() {
    local known library package
    known="$(ldconfig -p)"
    while read -r library package; do
        [ -z "$library" ] || grep -qF "$library " <<<"$known" || echo "$package"
    done <<<"$libraries"
    [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || return 0
    command -v Xvfb >/dev/null || echo xvfb
    command -v xvfb-run >/dev/null || echo xvfb
    command -v xauth >/dev/null || echo xauth
    # without a graphics driver of its own, Xvfb draws with Mesa's software renderer
    compgen -G '/usr/lib*/dri/swrast_dri.so' >/dev/null || compgen -G '/usr/lib/*/dri/swrast_dri.so' >/dev/null \
        || grep -qF 'libgallium' <<<"$known" || echo libgl1-mesa-dri
}

mapfile -t missing < <(missing_packages | sort -u)
[ "${#missing[@]}" -gt 0 ] || exit 0

line="apt-get install -y --no-install-recommends ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "napari needs system libraries that are missing here; in Debian's names: ${missing[*]}" >&2
    echo "Install the packages of your distribution that hold them, then run make again." >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "napari needs system libraries that are missing here. Run this line, then make again:" >&2
    echo "    sudo apt-get update && sudo $line" >&2
    exit 1
fi
echo "Installing system libraries: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
# shellcheck disable=SC2086  # one word a package
"${as_root[@]}" $line -qq >/dev/null
