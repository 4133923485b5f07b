#!/usr/bin/env bash
set -euo pipefail

rules=(
    --rule "layer4.*.conv*.weight=kaiming_normal:relu,fan_out"
    --rule "layer4.*.bn*.weight=ones"
    --rule "layer4.*.bn*.bias=zeros"
    --rule "fc.weight=normal:std=0.01"
    --rule "fc.bias=zeros"
)

reinit resnet18 --weights none "${rules[@]}" --dry-run
reinit resnet18 --weights none "${rules[@]}" --output fine-tune.safetensors

# The same command gives the same bytes.
reinit resnet18 --weights none "${rules[@]}" --output - --quiet | cmp - fine-tune.safetensors
