#!/usr/bin/env bash
set -euo pipefail

reinit keys alexnet "features.*.weight"
reinit show alexnet features.0.weight --weights none --slice 0,0

reinit alexnet --weights none --rule "features.*.weight=xavier_uniform:relu" --verbose

# After: all values lie within ±0.0385.
reinit show alexnet-reinit.safetensors features.0.weight --slice 0,0
reinit stats alexnet-reinit.safetensors features.0.weight

# The written tensor is the one that is drawn for this key.
reinit draw "xavier_uniform:relu" 64,3,11,11 --key features.0.weight
