#!/usr/bin/env bash
# c++ for mmcv's ops. Three quarters of their compile time go into torch's headers, the same in all 77
# files: the first call compiles these, with its own flags, into HEADERS, and every call reuses that.
set -euo pipefail
[[ " $* " == *" -c "* ]] || exec c++ "$@"  # it links, or tells its version

exec 9> "$HEADERS/lock"
flock 9
if [ ! -e "$HEADERS/torch.h.gch" ]; then
    echo '#include <torch/types.h>' > "$HEADERS/torch.h"
    flags=()
    for ((i = 1; i <= $#; i++)); do
        case ${!i} in
        -c | -MMD | *.cpp) ;;
        -o | -MF) i=$((i + 1)) ;;
        *) flags+=("${!i}") ;;
        esac
    done
    c++ "${flags[@]}" -x c++-header "$HEADERS/torch.h" -o "$HEADERS/new.gch"
    mv "$HEADERS/new.gch" "$HEADERS/torch.h.gch"
fi
exec 9>&-
exec c++ -include "$HEADERS/torch.h" "$@"
