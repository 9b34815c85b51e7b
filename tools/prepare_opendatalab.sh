#!/usr/bin/env bash
# What `mim download mobileone_mm --dataset coco2017` calls: prepare_opendatalab.sh DOWNLOADS DATA_ROOT
# Links COCO's archives, wherever OpenDataLab put them below DOWNLOADS, to where prepare_data.py looks.
set -euo pipefail
downloads=$1 root=$2
mkdir -p "$root/downloads"
for name in train2017.zip val2017.zip annotations_trainval2017.zip; do
    found=$(find "$(realpath "$downloads")" -name "$name" | head -n 1)
    [ -z "$found" ] || ln -sf "$found" "$root/downloads/$name"
done
exec python "$(dirname "$0")/prepare_data.py" coco --data-root "$root"
