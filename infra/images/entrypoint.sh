#!/bin/sh
# Becomes the command, with the resampler's compiled code where numba reads it.
set -eu

# Numba compiles anew, 13 s of a core for each process, where it may not write: another user, a read-only container.
if [ -n "${NUMBA_CACHE_DIR:-}" ] && [ -d "$NUMBA_CACHE_DIR" ] && ! [ -w "$NUMBA_CACHE_DIR" ]; then
	kernels=$(mktemp -d)
	cp -R "$NUMBA_CACHE_DIR/." "$kernels"
	export NUMBA_CACHE_DIR="$kernels"
fi
exec "$@"
