"""Print a digest of everything the tool writes, to compare two checkouts.

    python tests/pins.py print > before.json            # of the package found first on sys.path
    python tests/pins.py print --only "record*"         # of the pins whose names match
    python tests/pins.py print --spell=--old=--new      # where an option was renamed
    python tests/pins.py compare before.json after.json # a line for each pin that differs
    python tests/pins.py compare --files before.json after.json # exit codes and files only

PYTHONPATH chooses the checkout. A pin is a few command lines that run one after the other in a
new folder with copies of the inputs that they name. What is pinned: the exit code of each command,
the text on both of its streams, and the digest of every file that was written, changed or removed.
The inputs are made here with fixed seeds, and nothing is downloaded.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import pickle
import pty
import re
import shlex
import shutil
import struct
import sys
import tempfile
import threading
import time
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

SHOWN = 300
"""Characters of each text that are kept, so that `compare` can show where two texts part."""


class Pin(NamedTuple):
    """Something the tool does.

    Attributes:
        name: a group, a colon, and what is done.
        lines: command lines without the program's name, in order; see `read_line`.
        also: inputs that no command line names.
    """

    name: str
    lines: tuple[str, ...]
    also: tuple[str, ...] = ()


def pins_of(group: str, text: str, *, also: tuple[str, ...] = (), **words: str) -> Iterator[Pin]:
    """Read a table: in each line a name, ": " and a command line, and indented further ones.

    Args:
        group: what the names begin with.
        text: the table.
        also: inputs that no command line names.
        words: what stands for each {word} in braces; without any, braces are braces.
    """
    found: list[tuple[str, list[str]]] = []
    for line in text.strip().splitlines():
        filled = line.format(**words) if words else line
        name, _, command = filled.partition(": ")
        if filled.startswith(" "):
            found[-1][1].append(filled.strip())
        else:
            found.append((name, [command]))
    for name, commands in found:
        yield Pin(f"{group}: {name}", tuple(commands), also)


def listed(text: str) -> list[str]:
    """Read what stands between bars and ends of lines."""
    return [each.strip() for line in text.strip().splitlines() for each in line.split(" | ")]


# --- the table: every initializer ------------------------------------------------------------

INITS = """
uniform | uniform:a=-0.1,b=0.1 | uniform:-2,3 | uniform:min_ndim=2
normal | normal:std=0.02 | normal:mean=1,std=0.5 | normal:std=0.02,min_ndim=2 | normal_:std=1
trunc_normal | trunc_normal:std=0.02,in_std | trunc_normal:mean=1,std=2,a=0,b=1.5
trunc_normal:std=0.5,a=-3,b=3,in_std | trunc_normal:mean=5,std=0.1,a=-2,b=2
depth_scaled | depth_scaled:std=0.02 | depth_scaled:std=0.02,layer=7
block:parts=2 | block:parts=2,inner=xavier_uniform | block:parts=2,inner=orthogonal:gain=2
block:parts=2,axis=1,inner=kaiming_normal:relu;fan_out | block:parts=3,inner=normal:std=0.1
icnr | icnr:upscale=2,inner=kaiming_normal:relu | icnr:2,inner=orthogonal
zeros | zeros:min_ndim=1 | ones | constant:0.5 | constant:val=-3 | constant:nan | constant:-inf
prior_bias | prior_bias:p=0.3
eye | dirac | dirac:groups=2 | identity | identity:std=0.01 | identity:relu,std=0.1
kaiming_uniform | kaiming_uniform:a=2.2360679 | kaiming_uniform:relu | kaiming_uniform:tanh,fan_out
kaiming_uniform:fan=512 | kaiming_uniform:leaky_relu,a=0.2 | kaiming_uniform:transposed=true
kaiming_normal | kaiming_normal:relu,fan_out | kaiming_normal:gelu | kaiming_normal:axes=io
kaiming_normal:relu,groups=4,fan_out | kaiming_normal:axes=bio | he_normal:selu | he_uniform:relu
orthogonal | orthogonal:tanh | orthogonal:gain=2 | orthogonal:axes=bio | orthogonal:min_ndim=3
delta_orthogonal | delta_orthogonal:tanh
variance_scaling | variance_scaling:2,fan_avg,uniform | variance_scaling:2,fan_out,normal
variance_scaling:0.5,fan_in,truncated_normal | variance_scaling:scale=3,axes=io
lecun_normal | lecun_normal:fan=9 | lecun_uniform | lecun_uniform:transposed=true
he_truncated | he_truncated:groups=2 | glorot_truncated | glorot_truncated:axes=oi
sparse:0.1 | sparse:0.5,std=2 | sparse:sparsity=0.9
xavier_uniform | xavier_uniform:relu | xavier_uniform:gain=0.5 | xavier_uniform:leaky_relu,a=0.1
xavier_normal | xavier_normal:tanh | xavier_normal:fan=100 | xavier_normal:axes=oi
glorot_uniform:relu | glorot_normal | keep
"""

TRANSFORMS = """
scale:0.5 | scale:-2 | noise:std=0.01 | noise:relative=0.1 | shrink_perturb:0.4,0.01
shrink_perturb:factor=0.5,std=0.01 | shuffle | resample | resample:uniform
clamp:min=-1,max=1 | clamp:max=0.5 | clamp:min=0
"""

ROUNDED = """
zeros | ones | constant:0.5 | normal:std=0.5 | uniform | trunc_normal:std=0.5 | prior_bias
xavier_uniform:relu | kaiming_normal | orthogonal | eye | identity:std=0.1 | sparse:0.2
block:parts=2 | variance_scaling:2
"""
"""What is drawn for every dtype."""

BY_NAME = """
int64=zeros | int8=constant:-128 | uint8=constant:256 | uint64=constant:18446744073709551615
bool=ones | bool=constant:2 | complex64=constant:2 | complex128=normal | float16=constant:70000
float16=normal:std=1e6 | float8_e4m3fn=constant:-inf | float8_e4m3fn=constant:nan
float8_e8m0fnu=zeros | float32=constant:1e39 | float64=constant:1e39 | int64=shuffle
bool=shuffle | int32=scale:2 | int16=noise:std=1 | float8_e5m2=rewind:dtypes.safetensors
"""
"""Keys are the names of dtypes."""

REWINDS = """
all: late.safetensors -r "*=rewind:early.safetensors" -o out.safetensors -v
all but zeros: late.safetensors -r "*=rewind:early.safetensors,keep_zeros=true" -o out.safetensors
from a torch file: net.pt -r "*=rewind:early.pt" -o out.pt -v
from a torch file, strict: net.pt -r "*=rewind:early.pt" -o out.pt --strict
running statistics: net.safetensors -r "features.1.*=rewind:net-other.pt" -v
from shards: net.safetensors -r "*=rewind:hf" -v -o out.safetensors
from nowhere: late.safetensors -r "*=rewind:missing.safetensors"
other shapes: shapes.safetensors -r "*=rewind:early.safetensors"
other dtypes: cast.safetensors -r "*=rewind:net.safetensors" -v
in a folder: hf -r "*.weight=rewind:net-other.pt" -o out -v
checked: late.safetensors -r "*=rewind:early.safetensors" -o out.safetensors --check -v --json
views: layouts.pt -r "*=rewind:layouts-legacy.pt" -o out.pt -v
"""

COMPOUNDS = """
q, k and v: lm.safetensors -r "layers.*.attention.weight=block:parts=3,inner=xavier_uniform" -v
along dimension 1: lm.safetensors -r "*.mlp.weight=block:parts=4,axis=1,inner=orthogonal:gain=0.5" -v
block that does not divide: lm.safetensors -r "layers.0.attention.weight=block:parts=5"
icnr by name: net.safetensors -r features.3.weight=icnr:upscale=2 -v
icnr that does not divide: net.safetensors -r classifier.weight=icnr:upscale=3
depth of layers: lm.safetensors -r "layers.*.weight=depth_scaled:std=0.02" -v
depth of no layer: lm.safetensors -r head.weight=depth_scaled
default of a checkpoint: squeeze.pth -r "*=default" --arch squeezenet1_1 -o out.pth -v
default behind a prefix: squeeze-prefixed.pt -r "*classifier*=default" --arch squeezenet1_1 -o out.pt
default of no architecture: squeeze.pth -r "*=default"
default of another architecture: squeeze.pth -r "*=default" --arch resnet18
default of an unknown architecture: squeeze.pth -r "*=default" --arch squeezenet2
default of shufflenet: shufflenet_v2_x0_5 --weights none -r "*=default" -s 5 -o out.safetensors
default of mobilenet: mobilenet_v3_small --weights none -r "*=default" -s 5 -o out.safetensors
default of squeezenet: squeezenet1_0 --weights none -r "*=default" --check -s 5 -o out.safetensors
laws of vit: vit_b_16 --weights none -r "*=default" -n --json
laws of swin: swin_t --weights none -r "*=default" -n --json
laws of inception: inception_v3 --weights none -r "*=default" -n --json
laws of retinanet: retinanet_resnet50_fpn --weights none -r "*=default" -n --json
laws of raft: raft_small --weights none -r "*=default" -n --json
"""

BIG = """
normal: big.pt -r "*=normal:std=0.1" -o out.pt -v
noise: big.pt -r "*=noise:relative=0.1" -o out.pt -v
shuffle: big.pt -r "*=shuffle" -o out.pt -v
resample: big.pt -r "*=resample" -o out.pt --record -q
  verify out.pt
rewind: big.pt -r "*=rewind:big.pt" -o out.pt
noise of a conversion: big.pt -o out.safetensors
  out.safetensors -r "*=noise:relative=0.1" -o noisy.safetensors -v
  diff big.pt noisy.safetensors --json
cast: big.pt --dtype float16 -o out.pt
measured: stats big.pt --json
  stats big.pt --report report.html
  show big.pt far --slice 3,:4
"""


def initializers() -> Iterator[Pin]:
    drawing = "-s 3 -v --allow-unmatched -o out"
    for init in listed(INITS) + listed(TRANSFORMS):
        line = f'shapes.safetensors -r "*={init}" {drawing}'
        checked = f"{line}2.safetensors --check --json --report report.html"
        yield Pin(f"init: {init}", (f"{line}.safetensors", checked))
    for init in listed(TRANSFORMS) + listed(ROUNDED):
        yield Pin(f"views: {init}", (f'layouts.pt -r "*={init}" {drawing}.pt',))
        yield Pin(f"views legacy: {init}", (f'layouts-legacy.pt -r "*={init}" {drawing}.pt',))
        yield Pin(f"dtypes: {init}", (f'dtypes.pt -r "*={init}" {drawing}.pt',))
    for init in ("normal:std=0.5", "noise:relative=0.2", "orthogonal", "shuffle", "constant:0.1"):
        line = f'dtypes.safetensors -r "*={init}" {drawing}.safetensors'
        yield Pin(f"dtypes: {init} in safetensors", (line,))
    for rule in listed(BY_NAME):
        yield Pin(f"dtypes: {rule}", (f"dtypes.pt -r {rule} -o out.pt",))
    for init in (*listed(TRANSFORMS), "kaiming_normal:relu", "normal:std=0.1", "ones"):
        joined = init + ("," if ":" in init else ":") + "keep_zeros=true"
        line = f'late.safetensors -r "*.weight={joined}" -s 4 -v -o out.safetensors'
        yield Pin(f"keep_zeros: {init}", (line, 'stats out.safetensors "*.weight"'))
    yield from pins_of("rewind", REWINDS)
    yield from pins_of("compound", COMPOUNDS)
    yield from pins_of("big", BIG)


def philox() -> Iterator[Pin]:
    drawing = f"--stream {PHILOX} -s 3 --allow-unmatched -q -o out"
    for init in listed(INITS) + listed(TRANSFORMS):
        line = f'shapes.safetensors -r "*={init}" {drawing}.safetensors --record'
        yield Pin(f"{PHILOX}: {init}", (line, "verify out.safetensors --json"))
        yield Pin(f"{PHILOX} dtypes: {init}", (f'dtypes.pt -r "*={init}" {drawing}.pt',))
    yield from pins_of(PHILOX, RESIZED, drawing=drawing)
    yield Pin(f"{PHILOX}: a report", (f"draw normal 3,4 --stream {PHILOX} -s 5 --json",))


RESIZED = """
new rows: lm.safetensors --resize "embed.weight=60:normal:std=0.02" {drawing}.safetensors
new rows with their mean: lm.safetensors --resize "embed.weight=60:mean" {drawing}.safetensors
a part: lm.safetensors -r "embed.weight[40:]=normal:std=0.02" {drawing}.safetensors
"""


# --- the table: rules, patterns, errors ------------------------------------------------------

PATTERNS = r"""
*.weight | features.* | features.?.weight | features.[01].* | features.[!0].* | *.{weight,bias}
features.{0..3}.weight | {features,classifier}.*.weight | re:features\.\d\.(weight|bias)
re:(?i)CLASS.* | classifier.weight | {classifier.weight,classifier.bias} | * | ?eatures*
features.{3..0}.bias | *.running_mean | nothing.* | Features.* | [*] | a[b | a{b | {a..c}
{0..99999} | [z-a] | re:( | re: | features.{00..03}.bias | features.[0-9].{w*,b*}
"""

RULES = """
last one owns: -r "*.weight=normal:std=1,min_ndim=2" -r "features.3.*=zeros"
order matters: -r "features.3.*=zeros" -r "*.weight=normal:std=1,min_ndim=2"
kept by rule: -r "*=zeros" -r "*.bias=keep"
excluded: -r "*=zeros" -x "*.bias" -x "features.{0,1}.*"
excluded only: -x "*.bias"
excluded everything: -r "*=zeros" -x "*"
wildcard skips: -r "*=xavier_uniform"
strict: -r "*=xavier_uniform" --strict
strict without skips: -r "*.bias=zeros" --strict
no strict: -r "*=xavier_uniform" --strict --no-strict
unmatched: -r "*.bias=zeros" -r "feature.*.wieght=ones"
unmatched allowed: -r "*.bias=zeros" -r "feature.*.wieght=ones" --allow-unmatched
nothing filled: -r "*.bias=xavier_uniform"
nothing filled, allowed: -r "*.bias=xavier_uniform" --allow-unmatched
nothing matched, allowed: -r "x=zeros" --allow-unmatched
name that insists: -r features.0.bias=xavier_uniform
name with min_ndim: -r features.0.bias=normal:min_ndim=2
running statistics by name: -r "*.running_mean=zeros" -r "*.running_var=ones"
counter by name: -r features.1.num_batches_tracked=zeros
shadowed: -r features.0.weight=ones -r "features.*=zeros"
scale of a norm: -r "*.weight=normal:std=1"
with buffers: -r features.1.weight=ones --with-buffers
with buffers, one kept: -r features.1.weight=ones -r "*.running_var=keep" --with-buffers
without buffers: -r features.1.weight=ones --with-buffers --no-with-buffers
another seed: -r "*.weight=normal:std=1,min_ndim=2" --seed -7
large seed: -r "*.weight=normal:std=1,min_ndim=2" --seed 12345678901234567890
checked: -r "*.weight=xavier_uniform:relu" -r "*.bias=uniform" --check
device: -r "*.bias=normal" -d cpu
missing device: -r "*.bias=normal" -d cuda:77
unknown device: -r "*.bias=normal" -d gpu
quiet: -r "*.bias=normal" -q
synced: -r "*.bias=normal" --sync
arguments in any order: -r "*.weight=kaiming_normal:fan_out,relu,min_ndim=2"
alias: -r "*.weight=he_normal:relu,fan_out,min_ndim=2"
key with an equals sign: -r "a=b=zeros"
"""

WRONG = rf"""
no rule: net.safetensors
mistyped command: modles
mistyped command with an argument: kyes net.safetensors
mistyped option: net.safetensors --sed 3
mistyped file: nte.safetensors -r *=zeros
mistyped model: alexnt -r *=zeros
mistyped weights: keys alexnet --weights IMAGENET1K_V9
weights of a file: net.safetensors --weights none -r *=zeros
rule without an equals sign: net.safetensors -r features
mistyped initializer: net.safetensors -r *=orthogonl
mistyped argument: net.safetensors -r *=normal:sdt=1
mistyped nonlinearity: net.safetensors -r *=orthogonal:gain=tahn
ambiguous number: net.safetensors -r *=normal:0.02
number behind a name: net.safetensors -r *=uniform:a=1,2
argument out of range: net.safetensors -r *=normal:std=-1
argument twice: net.safetensors -r *=normal:std=1,std=2
missing argument: net.safetensors -r *=constant
called like a function: net.safetensors -r "*=normal(std=0.02)"
empty argument: net.safetensors -r *=normal:
argument of none: net.safetensors -r *=zeros:3
number too many: net.safetensors -r *=uniform:1,2,3
text for a number: net.safetensors -r *=block:parts=x
mode of another initializer: net.safetensors -r *=kaiming_normal:fan_avg
verify a model: verify alexnet
recipe that is a checkpoint: net.safetensors -c net.pt
noise twice: net.safetensors -r *=noise:std=1,relative=1
noise of nothing: net.safetensors -r *=noise
clamp of nothing: net.safetensors -r *=clamp
clamp of less than nothing: net.safetensors -r *=clamp:min=1,max=0
block of nothing: net.safetensors -r *=block:inner=normal
block of a transform: net.safetensors -r *=block:parts=2,inner=noise:std=1
uniform of less than nothing: net.safetensors -r *=uniform:a=1,b=0
sparse of too much: net.safetensors -r *=sparse:2
axes twice: net.safetensors -r *=kaiming_normal:axes=oo
axes and groups: net.safetensors -r *=kaiming_normal:axes=oi,groups=2
slope of no rectifier: net.safetensors -r *=kaiming_normal:tanh,a=0.2
mean without rows: net.safetensors -r *=mean
no regular file: keys /dev/null
long name: net.safetensors -r *.bias=zeros -o {"long" * 70}.pt
link as an output: @link net.pt link.pt
  net.safetensors -r *.bias=zeros -o link.pt
  net.safetensors -r *.bias=zeros -o link.pt --force
link as a source: @link net.safetensors link.safetensors
  link.safetensors -r *.bias=zeros
  link.safetensors -r *.bias=zeros --in-place
link to nowhere: @link nowhere.pt link.pt
  net.safetensors -r *.bias=zeros -o link.pt
other spelling: net.safetensors -r *.weight=kaiming_normal:ReLU
bad pattern: net.safetensors -r a[b=zeros
output is the source: net.safetensors -r *=zeros -o ./net.safetensors --force
existing output: net.safetensors -r *=zeros -o net.pt
existing output, forced: net.safetensors -r *.bias=zeros -o net.pt --force
missing folder: net.safetensors -r *=zeros -o no/where.safetensors
unknown suffix: net.safetensors -r *=zeros -o out.h5
in place and elsewhere: net.safetensors -r *=zeros --in-place -o out.safetensors
model in place: squeezenet1_1 --weights none -r *=zeros --in-place
missing source: -r *=zeros
hostile pattern: net.safetensors -r "\x1b*$(echo)=zeros"
bad dtype: net.safetensors --dtype bfloat61
dtype of integers: net.safetensors --dtype int8
bad size: net.safetensors --shard-size big -o out/
shards in a file: net.safetensors --shard-size 1kB -o out.safetensors
bad seed: net.safetensors -r *=zeros -s 1-4
check to standard output: net.safetensors -r *=zeros --check -o -
record to standard output: net.safetensors -r *=zeros --record -o -
resize without a number: net.safetensors --resize classifier.weight=x
resize without a rule for new rows: net.safetensors --resize classifier.weight=99
resize of nothing: net.safetensors --resize clasifier.weight=5
NUL without a list: net.safetensors -r *=zeros -0
optimizer of none: net.pt -r *.bias=zeros --reset-optimizer
classes of a file: net.safetensors --num-classes 5
placeholder: net.safetensors -r *.bias=zeros -o {{sed}}.pt
lone brace: net.safetensors -r *.bias=zeros -o {{.pt -s 0..1
weights that cannot be downloaded: alexnet -r *=zeros
weights of another model: resnet18 --weights squeeze.pth -r *=zeros
missing weights: squeezenet1_1 --weights missing.pth -r *=zeros
draw with a bad shape: draw normal 3,x
draw with a bad dtype: draw normal 3 --dtype bfloat61
draw nothing: draw keep 3
draw a transform: draw noise:std=1 3
draw without fans: draw xavier_uniform 3
show an unknown key: show net.safetensors classifer.weight
show a bad slice: show net.safetensors classifier.weight --slice 0,x
show a slice too deep: show net.safetensors classifier.bias --slice 0,0
show an index too large: show net.safetensors classifier.bias --slice 99
explain an unknown initializer: inits nrmal
diff of an unknown key: diff net.safetensors net.pt nothing
diff of a missing file: diff net.safetensors missing.pt
stats of an unknown key: stats net.safetensors nothing
stats by a word: stats net.safetensors --by x
verify without a record: verify net.safetensors
verify a missing file: verify missing.safetensors
record that is none: verify net.safetensors --record recipes/good.json
two readers of standard input: - -c - -r *=zeros
report of a dry run: net.safetensors -r *.bias=zeros -n --report out.html
report over the source: net.safetensors -r *.bias=zeros --report net.safetensors
report of an unknown suffix: net.safetensors -r *.bias=zeros --report out.doc
together: keys net.safetensors --tree --group
unknown shell: completion tcsh
forced path: keys ./squeezenet1_1
damaged, gone on: damaged.pt -r *.bias=zeros --no-verify-crc -o out.pt
unknown names refused: train.pt -r *.bias=zeros --refuse-unknown-globals
NaN and infinities: stats nan.safetensors --check
  stats nan.safetensors --json
  nan.safetensors -r *=noise:relative=0.1 -o out.safetensors
  nan.safetensors -r *=shuffle -o out2.safetensors -v
in color: @errors net.safetensors -r *=orthogonl
without color: @errors NO_COLOR=1 net.safetensors -r *=orthogonl
"""

UNREADABLE = """
empty.safetensors | short.safetensors | truncated.safetensors | overlong.safetensors
badjson.safetensors | badoffsets.safetensors | pointer.safetensors | page.safetensors | array.npz
squeezed.pt.gz | hdf5.h5 | compressed.pt | cut.pt | cut-legacy.pt | damaged.pt | text.pt | script.pt
empty | hf-broken | hf-two | number.pt | list.pt | gan.pt | tuple.pt | pickled.pt
"""

HEADERS = """
unknown dtype: {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}
no dtype: {"a": {"shape": [1], "data_offsets": [0, 4]}}
no shape: {"a": {"dtype": "F32", "data_offsets": [0, 4]}}
shape of texts: {"a": {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}}
shape of booleans: {"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}
negative shape: {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}
three offsets: {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}
other size: {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}
hole: {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}
overlap: {"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]}}
key twice: {"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, "a": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}}
member twice: {"a": {"dtype": "U8", "dtype": "I8", "shape": [8], "data_offsets": [0, 8]}}
metadata of numbers: {"__metadata__": {"n": 3}, "a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}
metadata that is none: {"__metadata__": null, "a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}
half a byte: {"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}}
float4: {"a": {"dtype": "F4", "shape": [16], "data_offsets": [0, 8]}}
list: [1, 2]
nothing: {}
"""
"""Of files with eight bytes of data."""

INDEXES = """
whole: {"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}
missing file: {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
missing key: {"weight_map": {"a": "one.safetensors", "c": "one.safetensors"}}
other key: {"weight_map": {"a": "one.safetensors"}}
another folder: {"weight_map": {"a": "../one.safetensors", "b": "one.safetensors"}}
key twice: {"weight_map": {"a": "one.safetensors", "a": "one.safetensors", "b": "one.safetensors"}}
no map: {"metadata": {}}
empty map: {"weight_map": {}}
bad JSON: {"weight_map":
"""
"""Of folders with one file, which has a and b."""


def rules() -> Iterator[Pin]:
    for pattern in listed(PATTERNS):
        rule = shlex.quote(f"{pattern}=zeros")
        lines = f"keys net.safetensors {shlex.quote(pattern)}", f"net.safetensors -r {rule} -n -v"
        yield Pin(f"pattern: {pattern}", lines)
    for each in pins_of("rules", RULES):
        (args,) = each.lines
        lines = f"net.safetensors {args} -n --json", f"net.safetensors {args} -v -o out.safetensors"
        yield Pin(each.name, lines)
    yield Pin("wrong: no arguments", ("",))
    yield from pins_of("wrong", WRONG, also=("net.safetensors",))
    for source in listed(UNREADABLE):
        lines = f"keys {source}", f"keys {source} --meta", f'{source} -r "*=zeros" -v'
        yield Pin(f"source: {source}", lines)
    for kind, folder, text in (("header", "headers", HEADERS), ("index", "indexes", INDEXES)):
        for each in pins_of(kind, text):
            source = f"'{folder}/{each.name.removeprefix(f'{kind}: ')}'"
            lines = f"keys {source} -l", f'{source} -r "*=zeros" -o out/'
            yield Pin(each.name, lines, (folder,))


# --- the table: every format -----------------------------------------------------------------


class Format(NamedTuple):
    """A source to do everything with.

    Attributes:
        source: what is read.
        suffix: what an output of the same format ends with.
        key: of a matrix in it.
        also: inputs that belong to it.
    """

    source: str
    suffix: str
    key: str = "features.0.weight"
    also: tuple[str, ...] = ()


FORMATS = {
    "safetensors": Format("net.safetensors", ".safetensors"),
    "odd safetensors": Format("odd.safetensors", ".safetensors", "z.weight"),
    "zip": Format("net.pt", ".pt"),
    "legacy": Format("net-legacy.pt", ".pt"),
    "training zip": Format("train.pt", ".pt", "0.weight"),
    "training legacy": Format("train-legacy.pt", ".pt", "0.weight"),
    "stored zip": Format("stored.pt", ".pt"),
    "old zip": Format("old.pt", ".pt"),
    "module zip": Format("module.pt", ".pt", "0.weight"),
    "tied zip": Format("tied.pt", ".pt", "embed.weight"),
    "tied legacy": Format("tied-legacy.pt", ".pt", "embed.weight"),
    "views zip": Format("layouts.pt", ".pt", "transposed"),
    "views legacy": Format("layouts-legacy.pt", ".pt", "transposed"),
    "carried zip": Format("carried.pt", ".pt", "a.weight"),
    "carried legacy": Format("carried-legacy.pt", ".pt", "a.weight"),
    "folder": Format("hf", ""),
    "bin folder": Format("hf-bin", ""),
    "one-file folder": Format("hf-one", ""),
    "hub folder": Format("hub/snapshots/main", "", also=("hub",)),
    "index": Format("hf/model.safetensors.index.json", "", also=("hf",)),
}

OPERATIONS = """
filled: {source} {fill} -v
filled, as JSON: {source} {fill} --json -s 9 -o out{suffix}
filled whole: {source} -r "*=ones" --allow-unmatched -o out{suffix}
kept: {source} -r "*=keep" -o out{suffix}
noise: {source} -r "*=noise:std=0.1" -o out{suffix} -v
to safetensors: {source} -o new.safetensors
  {source} {fill} -o new2.safetensors --drop-non-tensors
  diff {source} new2.safetensors --json
to torch: {source} -o new.bin
  {source} {fill} -o new2.bin --drop-non-tensors
  keys new2.bin -l
to shards: {source} -o shards --shard-size 2kB
  {source} {fill} -o shards2 --shard-size 1KiB --drop-non-tensors
  diff {source} shards2 --json
to one shard: {source} -o shards --shard-size 1GB --drop-non-tensors {fill}
to bfloat16: {source} --dtype bfloat16 -o out{suffix} --drop-non-tensors
to float64, filled: {source} --dtype float64 -o out.safetensors --drop-non-tensors {fill}
to float8: {source} --dtype float8_e4m3fn -o out.pt --drop-non-tensors -r {key}=normal
to float16 by default: {source} --dtype float16
recorded inside: {source} {fill} --record -o out{suffix} -q
  verify out{suffix}
  verify out{suffix} --source {source}
  verify out{suffix} --source {source} --json
  {source} -c {record} -o again{suffix}
recorded beside: {source} {fill} --record=out.json -o out{suffix} -q
  verify out{suffix} --record out.json
  verify out{suffix} --record out.json --source {source} --json
  {source} -c out.json -o again{suffix} -n
recorded conversion: {source} {fill} --record -o out.safetensors --drop-non-tensors --untie -q
  verify out.safetensors --json
  verify out.safetensors --source {source}
in place: {source} {fill} --in-place
untied: {source} -r {key}=zeros --untie -o out{suffix} --drop-non-tensors -v
resized: {source} --resize "{key}=13:normal:std=0.5" -o out{suffix} --drop-non-tensors -v
  {source} --resize {key}=2 -o less{suffix} --drop-non-tensors
planned: {source} {fill} -n
  {source} {fill} -n --json > plan.json
  -c plan.json -q
listed: keys {source} -l
  keys {source} --json
  keys {source} --meta
  keys {source} --meta --json
  keys {source} --group
  keys {source} --tree
looked at: show {source} {key}
  show {source} {key} --slice 0,:2 --json
  stats {source}
  stats {source} --by module --json
compared: {source} -r {key}=noise:std=0.01 -o out{suffix} -q
  diff {source} out{suffix}
  diff {source} out{suffix} --all --json
  diff {source} {source}
checked: {source} {fill} --check --json -o out{suffix}
"""

PIPED = """
filled: - {fill} -o - {stdin}
filled into a file: - {fill} -o out.safetensors --drop-non-tensors {stdin}
filled by default: - {fill} -q {stdin}
converted: - -o out.bin --drop-non-tensors {stdin}
cast: - --dtype bfloat16 --drop-non-tensors -o out.pt {stdin}
listed: keys - -l {stdin}
measured: stats - {stdin}
noise: - -r "{key}=noise:relative=0.5" -o - --json {stdin}
recorded beside: - {fill} --record=out.json -o out.pt --drop-non-tensors {stdin}
"""

PLACES = """
piped and cut: - -r *.bias=zeros -o out.safetensors <| truncated.safetensors
safetensors to standard output: net.safetensors -r *.bias=zeros -o - -v
zip to standard output: net.pt -r *.bias=zeros -o - --json
stored zip to standard output: stored.pt -r "*.weight=normal:std=1,min_ndim=2" -o -
stored zip through a pipe: - -r "*.weight=normal:std=1,min_ndim=2" -o - <| stored.pt
cast to standard output: net.pt --dtype float16 -o -
legacy to standard output: train-legacy.pt -r "0.*=noise:std=1" -o -
resized to standard output: lm.pt --resize head.weight=60:mean -o -
folder to standard output: hf -r *.bias=zeros -o -
into an empty folder/: net.safetensors -r *.bias=zeros -o empty/
into an empty folder: net.safetensors -r *.bias=zeros -o empty
folder that is there: hf -r *.bias=zeros -o empty
  hf -r *.bias=zeros -o empty -f
folder with stale files: hf-two -r *.bias=zeros -o out -v
folder with a slash: hf/ -r *.bias=zeros
  keys hf/ --meta
sources below folders: batch/b.pt -r a.bias=zeros
as .pt: net-legacy.pt -r *.bias=zeros -o out.pt
as .pth: net-legacy.pt -r *.bias=zeros -o out.pth
as .bin: net-legacy.pt -r *.bias=zeros -o out.bin
as .ckpt: net-legacy.pt -r *.bias=zeros -o out.ckpt
as .safetensors: net-legacy.pt -r *.bias=zeros -o out.safetensors
as .PT: net.pt -r *.bias=zeros -o out.PT
zip in a file called safetensors: misnamed.safetensors -r *.bias=zeros -v
too large for a cast: large.safetensors --dtype float16 -o out.safetensors -v
cast to what it is: early.safetensors --dtype float32 -o out.safetensors
"""

OBJECTS = """
protocol {n}: keys objects-{n}.pt --meta
  keys objects-{n}.pt --meta --json
  objects-{n}.pt -r "*=normal" -o out.pt -v
  objects-{n}.pt -o out.safetensors
  objects-{n}.pt -o out2.safetensors --drop-non-tensors
"""
"""Of files with objects of many kinds."""

CASTS = """
to {dtype}: dtypes.pt --dtype {dtype} -o out.pt
  dtypes.safetensors --dtype {dtype} -o out.safetensors
  dtypes.safetensors --dtype {dtype} -o out2.pt -r float16=normal:std=0.3
"""


def formats() -> Iterator[Pin]:
    fill = '-r "*weight=normal:std=0.05" -r "{}=xavier_uniform:relu"'
    for kind, (source, suffix, key, also) in FORMATS.items():
        words = {"source": source, "suffix": suffix, "key": key, "fill": fill.format(key)}
        record = f"out{suffix}" if suffix else "out/reinit.json"
        yield from pins_of(kind, OPERATIONS, also=also, record=record, **words)
    for kind in ("safetensors", "odd safetensors", "zip", "legacy", "training zip"):
        source, _, key, _ = FORMATS[kind]
        for sign, word in (("<", "redirected"), ("<|", "piped")):
            words = {"key": key, "fill": fill.format(key), "stdin": f"{sign} {source}"}
            yield from pins_of(f"{kind} {word}", PIPED, **words)
    yield from pins_of("place", PLACES)
    for number in ("1", "2", "3", "4", "5", "legacy"):
        yield from pins_of("objects", OBJECTS, n=number)
    for dtype in ("float32", "float16", "bfloat16", "float64", "float8_e5m2", "float8_e4m3fnuz"):
        yield from pins_of("cast", CASTS, dtype=dtype)


# --- the table: training checkpoints, ties, sizes --------------------------------------------

ROOTS = """
ema.pt | ema.pt --root ema | ema.pt --root state_dict | ema.pt --root . | ema.pt --root nothing
gan.pt --root net_g | gan.pt --root net_d | deep.pt | deep.pt --root model.state_dict
deep.pt --root model | lightning.ckpt | lightning.ckpt --root optimizer_states | list.pt --root 0
tuple.pt --root 1 | train.pt --root optimizer | train.pt --root best
"""

OPTIMIZERS = """
train.pt | train-legacy.pt | sgd.pt | adamw.pt | named.pt | adagrad.pt | rmsprop.pt | frozen.pt
grouped.pt | lightning.ckpt | nadam.pt | reversed.pt | numbered.pt
"""

TRAINING = """
recorded: train.pt -r "2.*=normal:std=1" --reset-optimizer -o out.pt --record
  verify out.pt
  verify out.pt --source train.pt --json
kept: train.pt -r "2.*=zeros" --no-reset-optimizer -o out.pt
lost: train.pt -r "2.*=zeros" --reset-optimizer -o out.safetensors --drop-non-tensors
buffers: train.pt -r 1.weight=ones --with-buffers -v
cast: train.pt --dtype bfloat16 -o out.pt
"""

TIES = """
one name changes both: -r head.weight=normal:std=0.1
another name: -r embed.weight=normal:std=0.1
both alike: -r head.weight=zeros -r embed.weight=zeros
both otherwise: -r head.weight=zeros -r embed.weight=ones
wildcards: -r "head.w*=zeros" -r "embed.*=ones"
one kept: -r "*=normal" -x head.weight
untied: -r head.weight=zeros --untie
untied, both: -r head.weight=normal -r embed.weight=uniform --untie
resized: --resize "{embed,head}.weight=60:mean"
resized by one name: --resize embed.weight=60:normal:std=0.02
resized otherwise: --resize embed.weight=60:zeros --resize head.weight=61:zeros
smaller: --resize embed.weight=20
cast: --dtype bfloat16 -r head.weight=normal
"""

SIZES = """
more rows of the mean: {embed,head}.weight=53:mean
more rows drawn: embed.weight=53:normal:std=0.02
more rows with fans: head.weight=64:kaiming_uniform:relu
more orthogonal rows: head.weight=64:orthogonal
more rows of zeros: head.weight=64:zeros
fewer rows: {embed,head}.weight=20
the same rows: head.weight=50:zeros
rows of a vector: layers.0.norm.weight=20:ones
rows by wildcard: *.attention.weight=50:normal:std=0.1
no rows: head.weight=0
rows shuffled: head.weight=60:shuffle
"""

RESIZED = """
with rules: lm.safetensors --resize head.weight=60:zeros -r head.weight=normal:std=0.1 -v
twice: lm.pt --resize *.weight=60:zeros --resize head.weight=7 -n -v
and cast: lm.pt --resize head.weight=60:mean --dtype float16 -o out.safetensors
in place: lm.pt --resize head.weight=60:mean --in-place
in shards: hf --resize classifier.weight=12:zeros -o out -v
"""


def training() -> Iterator[Pin]:
    for source in listed(ROOTS):
        lines = (
            f"keys {source} -l",
            f"keys {source} --meta --json",
            f'{source} -r "*=normal:std=0.5" --allow-unmatched -v -o out.pt',
            f"{source} --drop-non-tensors -o out.safetensors",
        )
        yield Pin(f"root: {source}", lines)
    for source in listed(OPTIMIZERS):
        lines = (
            f'{source} -r "2.*=zeros" --reset-optimizer -o out.pt -v',
            f'{source} -r "2.weight=normal" --reset-optimizer -n --json',
        )
        yield Pin(f"optimizer: {source}", lines)
    yield from pins_of("training", TRAINING)
    for each in pins_of("ties", TIES):
        for source in ("tied.pt", "tied-legacy.pt"):
            line = f"{source} {each.lines[0]}"
            lines = f"{line} -v -o out.pt", f"{line} -o out.safetensors", "keys out.pt --json"
            yield Pin(f"{each.name}, {source}", lines)
    for each in pins_of("resize", SIZES):
        for source, output in (("lm.safetensors", "out.safetensors"), ("lm.pt", "out.pt")):
            line = f'{source} --resize "{each.lines[0]}" -s 2 -o {output} -v --record'
            lines = line, f"verify {output} --source {source} --json"
            yield Pin(f"{each.name}, {source}", lines)
    yield from pins_of("resize", RESIZED)


# --- the table: models -----------------------------------------------------------------------

MODELS = """
default output: squeezenet1_1 --weights none -r "features.*.weight=xavier_uniform:relu" -v
another seed: squeezenet1_1 --weights none -r "features.*.bias=zeros" -s 8 -o out.pt
no rule: squeezenet1_1 --weights none
no rule but an output: squeezenet1_1 --weights none -o out.safetensors
shards: squeezenet1_1 --weights none -o out --shard-size 2MB
bfloat16: squeezenet1_1 --weights none --dtype bfloat16 -o out.bin
to standard output: squeezenet1_1 --weights none -r "classifier.*=default" -o - -q
recorded: squeezenet1_1 --weights none -r "classifier.*=default" --num-classes 7 -o o.pt --record
  verify o.pt
  verify o.pt --source squeezenet1_1 --json
  -c o.pt -o again.pt
pretrained: squeezenet1_1 -r "classifier.*=zeros" -o out.safetensors -v
pretrained by name: squeezenet1_1 --weights IMAGENET1K_V1 --num-classes 3 -o out.pt --record
  verify out.pt --json
  verify out.pt --source squeezenet1_1
weights of a file: squeezenet1_1 --weights squeeze.pth -r "classifier.*=default" -o out.pt -v
weights behind a prefix: squeezenet1_1 --weights squeeze-prefixed.pt -r "*.bias=zeros" -o out.pt
classes of weights of a file: squeezenet1_1 --weights squeeze.pth --num-classes 4 -o out.pt
classes of a checkpoint: squeeze-prefixed.pt --arch squeezenet1_1 --num-classes 4 -o out.pt
classes of tensors alone: squeeze.pth --arch squeezenet1_1 --num-classes 4 -o out.pt -v
ten classes of squeezenet: squeezenet1_1 --weights none --num-classes 10 -o out.safetensors -v
ten classes of resnet: resnet18 --weights none --num-classes 10 -o out.safetensors -v
ten classes of mobilenet: mobilenet_v3_small --weights none --num-classes 10 -o out.safetensors -v
ten classes of alexnet: alexnet --weights none --num-classes 10 -q -o out.safetensors
buffers: resnet18 --weights none -r "layer4.*.bn?.weight=ones" --with-buffers -q
plan of alexnet: alexnet -r features.*.weight=xavier_uniform:relu -n -v
plan as JSON: resnet50 -r layer4.*=default -r fc.*=zeros -n --json -s 4
keys: keys alexnet
  keys resnet50 --group
  keys vit_b_16 --tree
  keys fasterrcnn_resnet50_fpn -l
  keys ssd300_vgg16 --count
show: show squeezenet1_1 features.0.weight --weights none --slice 0,0 -s 3
stats: stats squeezenet1_1 --weights none --by 1
  stats squeezenet1_1 --json
diff: diff squeezenet1_1 squeeze.pth
  diff squeezenet1_1 squeeze.pth --weights none
draw: draw default 10,512 --key fc.weight --arch resnet18
"""


def models() -> Iterator[Pin]:
    yield from pins_of("models", MODELS)


# --- the table: batches, recipes, records ----------------------------------------------------

BATCHES = """
into a folder: {three} -o out/
beside: {three}
by a form: {three} -o "out/[stem]-new[suffix]"
by parent: {three} -o "[parent]/new/[name]"
seeds: {three} -s 0..2 -o "out/[seed]/[name]"
seeds by default: batch/a.safetensors -r a.weight=normal -s 0,3,7
seeds of one name: {three} -s 0..1 -o out/
seeds into a form without them: net.pt -r "*.bias=normal" -s 0..1 -o "[stem]-x.pt"
side by side: {three} -s 0..3 -o "out/[stem]-[seed][suffix]" -j 2
side by side, as JSON: {three} -s 0,1 -o "out/[stem][seed].pt" -j 2 --json
converted: {three} -o "out/[stem].safetensors" --dtype bfloat16
dry: {three} -o out/ -n
  {three} -o out/ -n --json
verbose: {three} -o out/ -v
quiet: {three} -o out/ -q
recorded: {three} -o out/ --record
  verify out/b.pt --json
record beside: {three} -o out/ --record=r.json
first failure stops: batch/a.safetensors missing.pt batch/b.pt -r *.weight=zeros -o out/
keeps going: batch/b.pt missing.pt empty.safetensors net.pt -r *.weight=zeros -o out/ --keep-going
keeps going, as JSON: batch/b.pt damaged.pt missing.pt -r *.weight=zeros -o out/ --keep-going --json
keeps going, nothing done: missing.pt empty.safetensors -r *=zeros -o out/ --keep-going
one that fails keeps going: damaged.pt -r *.bias=zeros -o out.pt --keep-going
unmatched in one: batch/a.safetensors lm.safetensors -r a.weight=zeros -o out/
equal outputs: batch/b.pt twin/b.pt -r a.weight=zeros -o out/
list: --files-from batch/list.txt -r *.weight=ones -o out/
list of NULs: --files-from batch/list0.txt -0 -r *.weight=ones -o out/
list on standard input: --files-from - -r *.weight=ones -o out/ < batch/list.txt
list on a pipe: --files-from - -0 -r *.weight=ones -o out/ -j 2 <| batch/list0.txt
list of nothing: --files-from batch/none.txt -r *.weight=ones -o out/
list that is missing: --files-from batch/nowhere.txt -r *.weight=ones -o out/
list of one: --files-from batch/one.txt -r *.weight=ones -o out/
list and sources: batch/b.pt --files-from batch/one.txt -r *.weight=ones -o out/
models: squeezenet1_1 shufflenet_v2_x0_5 --weights none -r *.weight=zeros -o out/ -j 2
folders: hf hf-one -r *.bias=zeros -o out/
in place: {three} --in-place
forced: {three} -o out/ -q
  {three} -o out/
  {three} -o out/ --force
checked: {three} -o out/ --check --json
warnings: net.safetensors net.pt -r "*.weight=normal:std=1" -o out/
"""
"""Square brackets stand for the braces of an output's form."""

GOOD = """
seed = 3
source = "net.safetensors"
output = "from-recipe.safetensors"
[[rule]]
match = "*.weight"
init = "kaiming_normal"
nonlinearity = "relu"
mode = "fan_out"
min_ndim = 2
[[rule]]
match = "classifier.*"
init = "normal:std=0.02"
[[rule]]
match = "*.bias"
init = "keep"
"""

HEAD = """
seed = 7
rule = [
  {match = "layer4.*.conv?.weight", init = "kaiming_normal", nonlinearity = "relu", mode = "fan_out"},
  {match = "fc.weight", init = "normal", std = 0.01},
  {match = "fc.bias", init = "zeros"},
]
"""

IN_JSON = """
{"seed": 3, "rule": [
  {"match": "*.weight", "init": "xavier_uniform", "gain": "relu", "min_ndim": 2},
  {"match": "*.bias", "init": "zeros"}
]}
"""

RECIPES = """
options.toml: dtype = "bfloat16"
  strict = false
  drop_non_tensors = true
  root = "state_dict"
shards.toml: shard_size = "2kB"
  output = "shards"
  rule = [{match = "*.bias", init = "ones"}]
seeds.toml: seed = "0..2"
  output = "s/{stem}-{seed}.pt"
  rule = [{match = "*.bias", init = "normal"}]
resize.toml: resize = ["head.weight=60:mean", "embed.weight=60:mean"]
  record = true
model.toml: source = "squeezenet1_1"
  weights = "none"
  num_classes = 3
  output = "m.pt"
noname: seed = 4
unknown-field.toml: sed = 3
seed-type.toml: seed = 1.5
seed-text.toml: seed = "0-4"
device.toml: device = "gpu"
dtype.toml: dtype = "bfloat61"
flag.toml: strict = "yes"
size.toml: shard_size = "big"
placeholder.toml: output = "{sed}.pt"
sources.toml: source = [1]
version.toml: version = 2
stream.toml: stream = "torch-2"
no-table.toml: rule = ["*=zeros"]
no-match.toml: rule = [{init = "zeros"}]
match-typo.toml: rule = [{mach = "*", init = "zeros"}]
argument-typo.toml: rule = [{match = "*", init = "normal", sdt = 1}]
init-typo.toml: rule = [{match = "*", init = "orthogonl"}]
bad-pattern.toml: rule = [{match = "a[b", init = "zeros"}]
twice.toml: rule = [{match = "*", init = "normal:std=1", mean = 2}]
argument-type.toml: rule = [{match = "*", init = "normal", std = true}]
bad-toml.toml: seed =
bad-json.json: {"seed":
force.toml: force = true
"""
"""Files by name, with lines in place of command lines."""

OF_RECIPES = """
alone: -c recipes/good.toml -v
JSON: net.pt -c recipes/good.json -o out.pt -v
another source: net.pt -c recipes/good.toml
overridden: net.pt -c recipes/good.toml --seed 4 -r classifier.bias=zeros -o out.safetensors
several: -c recipes/good.toml -c recipes/good.json -c recipes/noname -n --json
options: train.pt -c recipes/options.toml -r 0.bias=zeros -o out.safetensors
options unset: train.pt -c recipes/options.toml --no-drop-non-tensors -o out.pt
shards: net.pt -c recipes/shards.toml
seeds: net.pt -c recipes/seeds.toml
  net.pt -c recipes/seeds.toml -s 5
resize: lm.safetensors -c recipes/resize.toml -o out.safetensors
model: -c recipes/model.toml
standard input: net.pt -c - -o out.pt < recipes/good.json
standard input, TOML: -c - <| recipes/good.toml
in place: -c recipes/good.toml --in-place
seed of the environment: REINIT_SEED=5 net.safetensors -r *.bias=normal -o out.safetensors
  REINIT_SEED=5 REINIT_DEVICE=cpu draw normal 3
  REINIT_SEED=5 net.safetensors -c recipes/good.json -o out2.safetensors
  REINIT_SEED=x net.safetensors -r *.bias=normal
  REINIT_DEVICE=gpu net.safetensors -r *.bias=normal
missing: net.pt -c recipes/godo.toml
a plan: net.pt -c recipes/good.json -s 2 -o out.pt -n --json > plan.json
  -c plan.json -q
  net.safetensors -c plan.json -o out.safetensors
a plan of a run: net.pt -c recipes/good.json -s 2 -o out.pt --json > plan.json
  -c plan.json -o out2.pt
a plan of shards: train.pt --dtype float16 --drop-non-tensors -o out --shard-size 1kB -n --json > p.json
  -c p.json -v
a plan of seeds: net.pt -c recipes/seeds.toml -n --json > plan.json
  -c plan.json
"""

RECORDS = """
holds: {made}
  verify out.safetensors
  verify out.safetensors -q
as a recipe: {made}
  lm.safetensors -c out.safetensors -o again.safetensors
a filled byte changed: {made}
  @flip out.safetensors head.weight
  verify out.safetensors
another byte changed: {made}
  @flip out.safetensors layers.0.norm.bias
  verify out.safetensors
  verify out.safetensors --source lm.safetensors --json
the record changed: {made}
  @flip out.safetensors 300
  verify out.safetensors
another source: {made}
  verify out.safetensors --source lm-other.safetensors
another kind of source: {made}
  verify out.safetensors --source lm.pt
not carried along: {made}
  out.safetensors -r head.weight=zeros -o next.safetensors
  verify next.safetensors
  keys out.safetensors --meta
of a record: {made}
  out.safetensors -r head.weight=zeros -o next.safetensors --record -q
  verify next.safetensors --source out.safetensors
of transforms: lm.pt -r "*=noise:relative=0.1" -r "*.bias=shuffle" -o out.pt --record -q
  verify out.pt
  verify out.pt --source lm.pt --json
of a rewind: late.safetensors -r *=rewind:early.safetensors -o out.safetensors --record -q
  verify out.safetensors
  verify out.safetensors --source late.safetensors
of shards: lm.safetensors -r head.weight=orthogonal -o out --shard-size 3kB --record -q
  verify out
  verify out --source lm.safetensors --json
beside, forced: lm.pt -r head.weight=ones -o out.pt --record=r.json -q
  lm.pt -r head.weight=ones -o out2.pt --record=r.json -q
  lm.pt -r head.weight=ones -o out2.pt --record=r.json -f
over the output: lm.pt -r head.weight=ones -o out.pt --record=out.pt
in place: lm.pt -r head.weight=eye -x *.bias --in-place --record
  verify lm.pt
of a dry run: lm.pt -r head.weight=ones --record=r.json -n
"""


def batches() -> Iterator[Pin]:
    three = 'batch/a.safetensors batch/b.pt "batch/c c.pt" -r "*.weight=normal:std=0.5"'
    for each in pins_of("batch", BATCHES, three=three):
        forms = str.maketrans("[]", "{}")
        lines = tuple(line.translate(forms) for line in each.lines)
        yield Pin(each.name, lines, ("batch",) if "list" in each.name else ())


def recipe_texts() -> dict[str, str]:
    short = {
        each.name.removeprefix("recipe: "): "\n".join(each.lines)
        for each in pins_of("recipe", RECIPES)
    }
    return {"good.toml": GOOD, "head.toml": HEAD, "good.json": IN_JSON} | short


def recipes() -> Iterator[Pin]:
    for name in recipe_texts():
        line = f"net.safetensors -c recipes/{name} -r classifier.bias=zeros -n"
        yield Pin(f"recipe: {name}", (line,), ("recipes",))
    yield from pins_of("recipes", OF_RECIPES, also=("net.safetensors", "recipes"))


def records() -> Iterator[Pin]:
    made = 'lm.safetensors -r "*.weight=normal:std=0.02" -x "*norm*" -o out.safetensors --record -q'
    yield from pins_of("record", RECORDS, made=made)


# --- the table: texts and pictures -----------------------------------------------------------

COMMANDS = "run | keys | show | diff | verify | stats | inits | draw | models | completion"

LINES = """
reinit | reinit ru | reinit al | reinit m | reinit --ru | reinit net.s | reinit keys net.safetensors
reinit net.safetensors -r fea | reinit net.safetensors -r features.*.w | reinit net.pt -nvr cl
reinit net.pt --rule="cl | reinit net.pt -r "classifier.bias=z | reinit net.safetensors -r x=
reinit net.pt -r x=normal: | reinit net.pt -r x=normal:std=1,m | reinit net.safetensors -r x=he_
reinit net.pt -r x=kaiming_normal:relu,fan | reinit net.pt --resize cl | reinit alexnet -r fe
reinit net.pt --resize classifier.weight=9:n | reinit alexnet --weights IM | reinit x --arch resnet1
reinit net.pt -x "classifier.w | reinit show net.pt cl | reinit keys net.safetensors --sort
reinit stats net.pt --by | reinit inits kai | reinit draw orth | reinit models "res | reinit -c rec
reinit diff net.pt net | reinit net.pt --dtype b | reinit net.safetensors -d c | reinit verify ne
reinit train.pt --root opt -r | reinit - -r fea | reinit nothing.pt -r fea | reinit 'net.s'* -r cl
"""

TEXTS = """
version: --version
help: --help
  -h
keys: keys net.safetensors
  keys net.safetensors -0
  keys net.safetensors --count
keys chosen: keys net.safetensors "*.weight" -x "features.1.*"
  keys net.safetensors -x *
keys sorted: keys lm.safetensors --sort key
  keys lm.safetensors --sort bytes -l
  keys lm.safetensors --sort parameters
  keys lm.safetensors --sort shape
  keys dtypes.pt --sort dtype -l
keys of layers: keys lm.safetensors --group
  keys lm.safetensors --group -l
  keys lm.safetensors --group -0
keys as a tree: keys lm.safetensors --tree
  keys tied.pt --tree
keys of none: keys net.safetensors nothing
  keys net.safetensors nothing --json
  keys net.safetensors nothing --count
show: show net.safetensors features.0.weight
  show net.safetensors features.0.weight --full
  show net.safetensors features.0.weight --slice 0,:,:2,:2
  show net.safetensors features.0.weight --slice ...,-1 --json
  show net.safetensors features.1.num_batches_tracked
  show net.safetensors classifier.weight --json
show dtypes: show dtypes.pt float8_e4m3fn
  show dtypes.pt float8_e8m0fnu
  show dtypes.pt complex64
  show dtypes.pt complex64 --json
  show dtypes.pt bool
  show dtypes.pt uint16
  show dtypes.pt float64
show views: show layouts.pt transposed
  show layouts.pt diagonal
  show layouts.pt expanded
  show layouts.pt scalar
  show layouts.pt unfolded --slice 1:,::2
show what is carried: show carried.pt conjugated
  show carried.pt sparse
  show carried.pt text
stats: stats net.safetensors
  stats net.safetensors "features.*" --by module
  stats lm.safetensors --by 2 --json
  stats lm.safetensors --check
  stats dtypes.pt --json
  stats dtypes.pt
  stats tied.pt --by 1
diff: diff net.safetensors net-other.pt
  diff net.safetensors net-other.pt --json
  diff net.safetensors net-other.pt --all
  diff net.safetensors net-other.pt --keys-only
  diff net.safetensors net-other.pt -q
  diff net.safetensors net-other.pt "features.*" --rtol 0.1 --atol 0.5
  diff net.safetensors net-other.pt --rtol 1000 --atol 1000
  diff shapes.safetensors dtypes.safetensors --json
diff across formats: diff net.safetensors net.pt
  diff hf hf-bin --all
  diff net.pt cast.safetensors --json
  diff tied.pt lm.safetensors --json
  diff late.safetensors early.safetensors
  diff train.pt ema.pt --root state_dict
  diff layouts.pt layouts-legacy.pt --all
diff of moved keys: diff squeeze.pth squeeze-prefixed.pt
  diff lm.pt renamed.pt --json
draw: draw xavier_uniform:relu 3,5
  draw kaiming_normal:relu,fan_out 64,3,11,11 --key features.0.weight
  draw normal:std=0.02 scalar --dtype bfloat16 -s 4
  draw orthogonal 4x4 --json
  draw sparse:0.5 6,4 --dtype float64
  draw block:parts=2,inner=orthogonal 8,4 --json --key q.weight
  draw trunc_normal:std=0.5,in_std 5 -d cpu
  draw eye 3,2 --dtype float8_e4m3fn
  draw uniform 0,3
  draw constant:2 (3,) --dtype float16
inits: inits
  inits --json
inits explained: inits kaiming_normal
  inits he_uniform
  inits normal
  inits block
  inits noise --json
  inits default
  inits keep
models: models
  models --json
  models "resnet*" "*vit*"
  models nothing
completion bash: completion bash
completion zsh: completion zsh
completion fish: completion fish
"""

ON_A_TERMINAL = """
keys net.safetensors | keys lm.safetensors --group | keys lm.safetensors --tree
keys train.pt --meta | keys tied.pt | keys odd.safetensors | keys alexnet | keys hf --count
show net.safetensors classifier.bias | stats net.safetensors | stats lm.safetensors --by module
diff net.safetensors net-other.pt | diff net.pt net.safetensors | inits | inits xavier_uniform
models "resnet*" | draw xavier_uniform:relu 3,5 | --help | run --help
net.safetensors -r "*.weight=normal:std=1" -n | net.safetensors -r "*.weight=xavier_uniform" -v
net.safetensors net.pt -r "*.bias=zeros" -o out/ | net.safetensors -r "*.bias=zeros" -o -
lm.safetensors -r "*=ones" --record | net.safetensors -r "*=xavier_uniform" -n -v
net.safetensors -r "*.bias=uniform" --check -v | COLUMNS=60 keys lm.safetensors | COLUMNS=60 inits
keys densenet201 | NO_COLOR=1 stats net.safetensors | COLUMNS=40 net.safetensors -r "*.bias=zeros" -v
"""

REPORTS = """
of a rewrite, {kind}: {rewrite} --report report.{kind}
of statistics, {kind}: stats net.pt --report report.{kind}
of a difference, {kind}: diff net.safetensors net-other.pt --report report.{kind}
"""

LAWS = """
embed.weight=uniform:-1,2 | head.weight=trunc_normal:std=0.5,a=-1,b=2
layers.0.attention.weight=orthogonal | layers.1.attention.weight=sparse:0.3
layers.2.attention.weight=block:parts=3,inner=orthogonal | layers.3.attention.weight=icnr
layers.0.mlp.weight=identity:std=0.01 | layers.1.mlp.weight=eye | layers.2.mlp.weight=he_truncated
layers.3.mlp.weight=noise:std=0.5 | layers.0.norm.weight=constant:3 | layers.1.norm.weight=shuffle
layers.2.norm.weight=clamp:min=0 | layers.3.norm.weight=resample | layers.0.norm.bias=prior_bias
layers.1.norm.bias=scale:2 | layers.2.norm.bias=constant:nan | layers.*.attention.bias=zeros
"""

MORE_REPORTS = """
checked: {rewrite} --check --report report.html
of transforms: lm.pt -r *.weight=shrink_perturb:0.4,0.01 --report report.html
of many laws: lm.safetensors {laws} --report report.html
  lm.safetensors {laws} -o out.safetensors --report report.svg
of a default: squeezenet1_1 --weights none -r *=default --report report.html -q
of modules: stats lm.pt --by module --report report.html
of keys: diff net.pt lm.pt --keys-only --report report.html
there already: {rewrite} --report report.html -q
  {rewrite} --report report.html -o other.safetensors
  {rewrite} --report report.html -o other.safetensors --force
"""


def texts() -> Iterator[Pin]:
    for command in listed(COMMANDS):
        yield Pin(f"help: {command}", (f"{command} --help", f"{command} -h"))
    yield from pins_of("text", TEXTS)
    breaks = shlex.quote(" \t\n\"'@><=;|&(:")
    for line in listed(LINES):
        quoted = shlex.quote(line)
        lines = (
            f"completion bash --breaks {breaks} --line {quoted}",
            f"completion zsh --line {shlex.quote(line + ' ')}",
            f"completion fish --line {quoted}",
        )
        yield Pin(f"completion: {line}", lines, ("net.safetensors", "net.pt", "recipes"))
    for line in listed(ON_A_TERMINAL):
        yield Pin(f"terminal: {line}", (f"@terminal {line}",))
    rewrite = 'net.safetensors -r "*.weight=kaiming_normal:relu,min_ndim=2" -s 1'
    for kind in ("html", "svg", "png"):
        yield from pins_of("report", REPORTS, rewrite=rewrite, kind=kind)
    laws = " ".join(f"-r {rule}" for rule in listed(LAWS))
    yield from pins_of("report", MORE_REPORTS, rewrite=rewrite, laws=laws)


# --- the table: the examples -----------------------------------------------------------------

EXAMPLES = """
alexnet: keys alexnet "features.*.weight"
  show alexnet features.0.weight --weights none --slice 0,0
  alexnet --weights none --rule "features.*.weight=xavier_uniform:relu" --verbose
  show alexnet-reinit.safetensors features.0.weight --slice 0,0
  stats alexnet-reinit.safetensors features.0.weight
  draw "xavier_uniform:relu" 64,3,11,11 --key features.0.weight
fresh-head: resnet18 --weights none {head} --dry-run
  resnet18 --weights none {head} --output fine-tune.safetensors
  resnet18 --weights none {head} --output - --quiet
last-layers: keys lm.safetensors --group
  lm.safetensors {last} --dry-run --verbose
  lm.safetensors {last} --output last-two.safetensors
  diff lm.safetensors last-two.safetensors --json
folder-of-checkpoints: --files-from - -0 --rule "*.weight=normal:std=0.01" {seeds} <| batch/list0.txt
  stats seeds/a-seed3.safetensors --check
  diff seeds/b-seed0.pt seeds/b-seed1.pt
  - --rule "*.weight=normal:std=0.01" --seed 3 --output - --quiet <| batch/b.pt
looking-at-keys: keys resnet50 "layer3.*.conv?.weight" --group
  keys net.pt "features.0.*" --tree
  keys net.pt
  keys net.pt "classifier.*" --exclude "*.bias" --sort bytes -l
  keys net.pt --json
  keys net.pt "*.bias" -0
  show net.pt features.0.weight --slice 0,0,:3,:3
  stats net.pt "features.*" --by module
lottery-ticket: late.safetensors {ticket} -o ticket.safetensors
  late.safetensors -r "*.weight=kaiming_normal:relu,keep_zeros=true" -o random.safetensors
  ticket.safetensors -r "*.weight=shuffle" -o shuffled-ticket.safetensors
  stats late.safetensors "*.weight"
  stats ticket.safetensors "*.weight"
recipe-in-ci: resnet18 --weights none --config recipes/head.toml --output start.safetensors
  resnet18 --weights none --config recipes/head.toml --output again.pt --dry-run --json > plan.json
  --config plan.json --quiet
recorded-rewrite: resnet18 --weights none --num-classes 10 --seed 7 -o ten.safetensors --record
  verify ten.safetensors
  verify ten.safetensors --source resnet18
  -c ten.safetensors -o again.safetensors --quiet
  @flip ten.safetensors 20000000
  verify ten.safetensors
"""


def examples() -> Iterator[Pin]:
    head = (
        '-r "layer4.*.conv*.weight=kaiming_normal:relu,fan_out" -r "layer4.*.bn*.weight=ones" '
        '-r "layer4.*.bn*.bias=zeros" -r "fc.weight=normal:std=0.01" -r fc.bias=zeros'
    )
    last = (
        '-r "layers.{2..3}.*.weight=normal:std=0.02" -r "layers.{2..3}.norm.weight=ones" '
        '-r "layers.{2..3}.*.bias=zeros"'
    )
    early = "rewind:early.safetensors"
    ticket = f'-r "*={early}" -r "*.weight={early},keep_zeros=true"'
    seeds = '--seed 0..4 --output "seeds/{stem}-seed{seed}{suffix}" --quiet'
    words = {"head": head, "last": last, "ticket": ticket, "seeds": seeds}
    yield from pins_of("example", EXAMPLES, also=("recipes", "batch"), **words)


# --- the table: from Python ------------------------------------------------------------------


def applied_to_a_module() -> object:
    from reinit_cli import apply_

    net = filled_net(
        nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3))
    )
    rules = ["*.weight=kaiming_normal:relu,min_ndim=2", "*.bias=zeros", "1.weight=noise:std=0.1"]
    plan = apply_(net, rules, seed=3, stream=TORCH, with_buffers=True)
    return [step.key for step in plan.fills], digests(net.state_dict())


def applied_to_a_mapping() -> object:
    from reinit_cli import apply_

    draw = Draws(8)
    state = {"a.weight": draw(6, 4).t(), "b.weight": draw(8, 8).bfloat16(), "c": draw(3).double()}
    apply_(state, ["*.weight=orthogonal:tanh", "c=trunc_normal:std=0.1"], seed=1, stream=TORCH)
    return digests(state)


def applied_default() -> object:
    from reinit_cli import apply_

    layers = (
        *(nn.Linear(5, 4), nn.LayerNorm(4), nn.LSTM(4, 3), nn.GRU(3, 2), nn.Bilinear(2, 3, 4)),
        *(nn.Embedding(7, 2), nn.Embedding(7, 2, padding_idx=3), nn.MultiheadAttention(8, 2)),
        *(nn.TransformerEncoderLayer(8, 2, 16), nn.ConvTranspose2d(4, 6, 3), nn.PReLU(4)),
    )
    net = nn.Sequential(*layers)
    apply_(net, ["*=default"], seed=2, stream=TORCH)
    return digests(net.state_dict())


class Patched(nn.Module):
    """Has a weight that its constructor fills in part, and values of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4, padding_idx=3)
        self.head = nn.Linear(4, 6)
        with torch.no_grad():
            self.head.weight[:3].normal_(0, 0.5)
            self.head.bias.copy_(torch.arange(6.0))
        self.register_buffer("positions", torch.arange(8).view(2, 4))


def applied_architecture() -> object:
    from reinit_cli import apply_

    net = filled_net(Patched())
    apply_(net, ["*=default"], seed=2, stream=TORCH, arch=Patched)
    return digests(net.state_dict())


def rewritten() -> object:
    from reinit_cli import rewrite

    rules = ["*.weight=normal:std=0.5,min_ndim=2"]
    options = {"seed": 4, "stream": TORCH, "dtype": "float16", "check": True}
    outcome = rewrite("net.safetensors", rules, "o.pt", **options)
    return {key: each.after.std for key, each in outcome.filled.items()}


def planned() -> object:
    from reinit_cli import plan

    decided = plan("net.pt", ["*=xavier_uniform", "*.bias=zeros"], seed=6, stream=TORCH)
    steps = [(step.key, step.action, step.reason) for step in decided.steps]
    return steps, [step.seed for step in decided.fills], decided.warnings


def compared() -> object:
    from reinit_cli import diff, rewrite, stats

    rewrite("net.safetensors", ["classifier.*=scale:1.5"], "scaled.pt")
    found = [
        (each.key, each.differs, each.distance and each.distance.max_abs)
        for each in diff("net.safetensors", "scaled.pt")
    ]
    measured = [(each.key, each.statistics.finite.mean) for each in stats("scaled.pt", by="module")]
    return found, measured


def verified() -> object:
    from reinit_cli import rewrite, verify

    rules = ["head.weight=normal:std=0.02"]
    rewrite("lm.safetensors", rules, "r.safetensors", stream=TORCH, record=True)
    verdict = verify("r.safetensors", source="lm.safetensors")
    return verdict.holds, verdict.findings


def digests(state: Mapping[str, Tensor]) -> dict[str, str]:
    return {key: digest(data_of(tensor.detach().contiguous())) for key, tensor in state.items()}


TORCH, PHILOX = "torch-1", "philox-1"
"""The stream of all pins that name no other, and of those that name it."""

PYTHON: dict[str, Callable[[], object]] = {
    each.__name__: each
    for each in (
        *(applied_to_a_module, applied_to_a_mapping, applied_default, applied_architecture),
        *(rewritten, planned, compared, verified),
    )
}


def python() -> Iterator[Pin]:
    also = ("net.safetensors", "net.pt", "lm.safetensors")
    for name in PYTHON:
        yield Pin(f"python: {name}", (f"@python {name}",), also)


# --- the whole table -------------------------------------------------------------------------


def table() -> list[Pin]:
    groups = (
        *(initializers, philox, rules, formats, training, models),
        *(batches, recipes, records, texts, examples, python),
    )
    pins = [each for group in groups for each in group()]
    names = [each.name for each in pins]
    assert len(set(names)) == len(names), sorted({n for n in names if names.count(n) > 1})
    return pins


# --- the inputs ------------------------------------------------------------------------------


class Draws:
    """Draw normal values from a stream of their own."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)


def data_of(tensor: Tensor) -> bytes:
    """Return the bytes of a contiguous tensor."""
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def make_inputs() -> None:
    """Write every input into the current folder."""
    make_checkpoints()
    make_odd_safetensors()
    make_layouts()
    make_archives()
    make_training()
    make_folders()
    make_models()
    make_batch()
    make_broken()
    Path("recipes").mkdir()
    for name, text in recipe_texts().items():
        Path("recipes", name).write_text(text)


def net_state(seed: int) -> dict[str, Tensor]:
    draw = Draws(seed)
    return {
        "features.0.weight": draw(8, 3, 5, 5),
        "features.0.bias": draw(8),
        "features.1.weight": 1 + draw(8) / 10,
        "features.1.bias": draw(8),
        "features.1.running_mean": draw(8),
        "features.1.running_var": draw(8).abs(),
        "features.1.num_batches_tracked": torch.tensor(30 + seed),
        "features.3.weight": draw(16, 8, 3, 3),
        "features.3.bias": draw(16),
        "classifier.weight": draw(10, 16).bfloat16(),
        "classifier.bias": draw(10).bfloat16(),
    }


def lm_state(seed: int) -> dict[str, Tensor]:
    draw = Draws(seed)
    state = {"embed.weight": draw(50, 16), "head.weight": draw(50, 16)}
    for layer in range(4):
        state |= {
            f"layers.{layer}.attention.weight": draw(48, 16),
            f"layers.{layer}.attention.bias": draw(48),
            f"layers.{layer}.mlp.weight": draw(16, 64),
            f"layers.{layer}.norm.weight": draw(16),
            f"layers.{layer}.norm.bias": draw(16),
        }
    return state


SHAPES = ((), (7,), (6, 10), (10, 6), (40, 30), (8, 4, 3), (8, 4, 3, 3), (4, 2, 3, 3, 3), (0, 3))

DTYPES = """
float64 | float32 | float16 | bfloat16 | float8_e4m3fn | float8_e5m2 | float8_e4m3fnuz
float8_e5m2fnuz | float8_e8m0fnu | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64
bool | complex64 | complex128
"""


def of_dtype(name: str) -> Tensor:
    dtype = getattr(torch, name)
    values = Draws(5)(6, 4)
    if name == "float8_e8m0fnu":
        return (values * 20 + 100).to(torch.uint8).view(dtype)
    if name.startswith("uint"):
        return (values.abs() * 20).to(torch.int64).to(dtype)
    return (values * 3).to(dtype)


def make_checkpoints() -> None:
    net, other = net_state(1), net_state(2)
    save_file(net, "net.safetensors", {"format": "pt"})
    torch.save(net, "net.pt")
    torch.save(net, "misnamed.safetensors")
    save_legacy(net, "net-legacy.pt")
    torch.save({**other, "features.0.bias": net["features.0.bias"]}, "net-other.pt")
    save_file({key: each.double() for key, each in net.items()}, "cast.safetensors")
    lm = lm_state(3)
    save_file(lm, "lm.safetensors", {"format": "pt"})
    torch.save(lm, "lm.pt")
    save_file(lm_state(4), "lm-other.safetensors", {"format": "pt"})
    torch.save({f"model.{key}": each for key, each in lm.items()}, "renamed.pt")
    shapes = {f"layers.{at}.weight": Draws(at)(*shape) for at, shape in enumerate(SHAPES)}
    save_file(shapes, "shapes.safetensors")
    dtypes = {name: of_dtype(name) for name in listed(DTYPES)}
    torch.save(dtypes, "dtypes.pt")
    del dtypes["complex128"]
    save_file(dtypes, "dtypes.safetensors")
    save_file({"big": Draws(6)(40) * 1e6, "small": Draws(7)(40)}, "large.safetensors")
    early = {key: each for key, each in net.items() if each.dtype == torch.float32}
    draw = Draws(9)
    late = {key: each + draw(*each.shape) / 10 for key, each in early.items()}
    for key in ("features.0.weight", "features.3.weight"):
        late[key][late[key].abs() < 1] = 0
    save_file(early, "early.safetensors")
    torch.save(early, "early.pt")
    save_file(late, "late.safetensors")
    bad = Draws(10)(5, 5)
    bad[0, 0], bad[1, 1], bad[2, 2] = float("nan"), float("inf"), float("-inf")
    save_file({"a.weight": bad, "b.weight": Draws(11)(4)}, "nan.safetensors")


def make_odd_safetensors() -> None:
    """Write a file with an order of its keys, metadata and padding of its own."""
    tensors = {
        "z.weight": ("F32", (6, 4), data_of(Draws(12)(6, 4))),
        "größe.weight": ("BF16", (3, 2), data_of(Draws(13)(3, 2).bfloat16())),
        "a\tb": ("F32", (2,), data_of(Draws(14)(2))),
        "a=b": ("F64", (2, 2), data_of(Draws(14)(2, 2).double())),
        "empty": ("F32", (0, 4), b""),
        "layers.10.x": ("I64", (), struct.pack("<q", 5)),
        "layers.9.x": ("F8_E8M0", (4,), b"\x7f\x80\x81\x82"),
    }
    header: dict[str, object] = {}
    offset = 0
    for key, (dtype, shape, data) in tensors.items():
        offsets = offset, offset + len(data)
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        offset = offsets[1]
    metadata = {"format": "pt", "author": 'me "too"', "größe": "5"}
    text = json.dumps({key: header[key] for key in sorted(header)} | {"__metadata__": metadata})
    data = b"".join(each for _, _, each in tensors.values())
    Path("odd.safetensors").write_bytes(with_header(f"{text}   ", data))


def with_header(text: str, data: bytes) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw + data


def save_legacy(value: object, path: str) -> None:
    """Write what `torch.save` wrote before 1.6.

    There torch names storages by their addresses in memory, which differ from process to
    process, so that this is done here again with numbers that do not.
    """
    storages: dict[int, tuple[str, Any, int]] = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
            if isinstance(obj, torch.storage.TypedStorage):
                storage, kind, numel = obj._untyped_storage, obj._pickle_storage_type(), obj._size()
            elif isinstance(obj, torch.UntypedStorage):
                storage, kind, numel = obj, "UntypedStorage", obj.nbytes()
            else:
                return None
            number = str(94_000_000_000_000 + 64 * len(storages))
            key, *_ = storages.setdefault(storage._cdata, (number, storage, numel))
            return ("storage", getattr(torch, kind), key, "cpu", numel, None)

    sizes = {"short": 2, "int": 4, "long": 4}
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    with open(path, "wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, info):
            pickle.dump(part, file, 2)
        Pickler(file, 2).dump(value)
        pickle.dump([key for key, *_ in storages.values()], file, 2)
        file.writelines(
            struct.pack("<q", numel) + bytes(storage) for _, storage, numel in storages.values()
        )


def make_layouts() -> None:
    draw = Draws(20)
    apart, meets = draw(10), draw(10)
    state = {
        "transposed": draw(5, 3).t(),
        "rows": draw(9, 4)[2:5],
        "columns": draw(6, 9)[:, 2:5],
        "steps": draw(30)[1::3],
        "channels_last": draw(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "permuted": draw(2, 3, 4).permute(2, 0, 1),
        "diagonal": draw(6, 6).diagonal(),
        "gaps": draw(200).as_strided((4, 5), (40, 2), 7),
        "half": draw(4, 6).bfloat16().t(),
        "float8": draw(6, 9).to(torch.float8_e5m2)[:, 2:5],
        "scalar": torch.tensor(3.5),
        "empty": draw(6, 4)[3:3],
        "apart.a": apart[:5],
        "apart.b": apart[5:],
        "meets.a": meets[:6],
        "meets.b": meets[4:],
        "expanded": draw(1, 4).expand(3, 4),
        "unfolded": draw(10).unfold(0, 4, 2),
        "parameter.weight": nn.Parameter(draw(3, 4)),
        "frozen.weight": nn.Parameter(draw(3, 4).t(), requires_grad=False),
        "wide": draw(300, 400).t(),
        "count": torch.arange(12).view(3, 4).t(),
        "attribute.weight": attributed(nn.Parameter(draw(3, 4))),
    }
    carried = {
        "a.weight": draw(5, 3),
        "conjugated": torch.complex(draw(3), draw(3)).conj(),
        "negated": torch._neg_view(draw(3)),
        "sparse": torch.eye(3).to_sparse(),
        "quantized": torch.quantize_per_tensor(draw(3), 0.5, 1, torch.qint8),
        "rows": torch.eye(3).to_sparse_csr(),
        "meta": torch.empty(3, 4, device="meta"),
        "text": "not a tensor",
        "number": 3,
        "nested": {"b": draw(2), "c": [1, 2]},
        "z.bias": draw(5),
    }
    lm = lm_state(21)
    tied = {"embed.weight": lm["embed.weight"], "head.weight": lm["embed.weight"]}
    tied |= {"norm.weight": lm["layers.0.norm.weight"], "norm.bias": lm["layers.0.norm.bias"]}
    for name, value in (("layouts", state), ("carried", carried), ("tied", tied)):
        torch.save(value, f"{name}.pt")
        save_legacy(value, f"{name}-legacy.pt")


def attributed(tensor: Tensor) -> Tensor:
    tensor.origin = "elsewhere"
    return tensor


def make_archives() -> None:
    """Write archives that torch does not lay out so today, and objects of many kinds."""
    with (
        zipfile.ZipFile("net.pt") as source,
        zipfile.ZipFile("stored.pt", "w") as stored,
        zipfile.ZipFile("old.pt", "w") as old,
    ):
        for info in source.infolist():
            stored.writestr(zipfile.ZipInfo(info.filename), source.read(info))
            if info.filename.startswith(("net/data", "net/version")):
                with old.open(zipfile.ZipInfo(info.filename), "w", force_zip64=True) as file:
                    file.write(source.read(info))
    draw = Draws(25)
    objects = {
        "numbers": [True, None, 3, -300, 70_000, 2**40, -(2**70), 0.5, 1 + 2j],
        "texts": ["", "größe", "x" * 300, b"", b"bytes" * 60, bytearray(b"array")],
        "sets": ({1, 2, 3}, frozenset((4, 5)), ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))),
        "of torch": [torch.Size([2, 3]), torch.float16, torch.device("cpu"), draw(3)],
        "of numpy": [draw(4).numpy(), draw(2, 2).double().numpy(), draw(1).numpy()[0]],
        "others": [argparse.Namespace(a=1), Path("a/b").parts, OrderedDict(a=draw(2)), range(3)],
        3: {4.5: "a number", (1, 2): "a tuple", None: {}},
    }
    objects["itself"] = objects
    value = {"state_dict": {"a.weight": draw(5, 4), "a.bias": draw(5)}, "objects": objects}
    for protocol in range(1, 6):
        torch.save(value, f"objects-{protocol}.pt", pickle_protocol=protocol)
    save_legacy(value, "objects-legacy.pt")
    big = {
        "gaps": draw(3000, 400).bfloat16()[::2, ::2],
        "columns": draw(700, 800).t(),
        "boxes": draw(4200, 1001).to(torch.float8_e4m3fn).t(),
        "far": draw(40, 40_000)[:, :150:3].t(),
    }
    torch.save(big, "big.pt")


def filled_net(net: nn.Module, seed: int = 30) -> nn.Module:
    """Fill a module from a stream of its own, whatever it was built with."""
    draw = Draws(seed)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(draw(*tensor.shape).abs() + 0.1)
    return net


def small_net(seed: int = 30) -> nn.Module:
    layers = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 5), nn.Linear(5, 2)
    return filled_net(nn.Sequential(*layers), seed)


def trained(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Take two steps, and return a training checkpoint."""
    draw = Draws(31)
    for _ in range(2):
        for parameter in net.parameters():
            parameter.grad = draw(*parameter.shape)
        optimizer.step()
    return {
        "epoch": 7,
        "args": argparse.Namespace(lr=0.1, name="größe"),
        "state_dict": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [0.5, 0.25],
        "best": {"state": torch.arange(3)},
    }


def make_training() -> None:
    optim = torch.optim
    optimizers: dict[str, Callable[[Any], optim.Optimizer]] = {
        "train": lambda net: optim.Adam(net.parameters()),
        "sgd": lambda net: optim.SGD(net.parameters(), lr=0.01, momentum=0.9),
        "adamw": lambda net: optim.AdamW(net.parameters(), amsgrad=True),
        "adagrad": lambda net: optim.Adagrad(net.parameters()),
        "rmsprop": lambda net: optim.RMSprop(net.parameters(), momentum=0.9, centered=True),
        "nadam": lambda net: optim.NAdam(net.parameters()),
        "named": lambda net: optim.AdamW(net.named_parameters()),
        "frozen": lambda net: optim.Adam(net[2:].parameters()),
        "reversed": lambda net: optim.Adam(reversed(list(net.parameters()))),
        "grouped": lambda net: optim.Adam(
            [{"params": net[:2].parameters()}, {"params": net[2:].parameters()}]
        ),
    }
    for name, optimizer_of in optimizers.items():
        net = small_net()
        torch.save(trained(net, optimizer_of(net)), f"{name}.pt")
    net = small_net()
    value = trained(net, optimizers["train"](net))
    save_legacy(value, "train-legacy.pt")
    numbered = {
        number: {**slots, "step": 2} for number, slots in value["optimizer"]["state"].items()
    }
    optimizer = {**value["optimizer"], "state": numbered}
    torch.save({**value, "optimizer": optimizer}, "numbered.pt")
    state, other = value["state_dict"], small_net(32).state_dict()
    lightning = {"state_dict": state, "optimizer_states": [value["optimizer"]], "epoch": 3}
    for name, each in {
        "ema.pt": {"state_dict": state, "ema": other, "step": 3},
        "deep.pt": {"model": {"state_dict": other}, "step": torch.tensor(3)},
        "gan.pt": {"net_g": state, "net_d": other},
        "list.pt": [state, 3],
        "tuple.pt": (7, OrderedDict(other)),
        "lightning.ckpt": lightning,
        "module.pt": small_net(),
        "number.pt": 3,
    }.items():
        torch.save(each, name)


def make_folders() -> None:
    net = net_state(1)
    keys = list(net)
    halves = {key: net[key] for key in keys[:7]}, {key: net[key] for key in keys[7:]}
    for folder, stem, suffix in (
        ("hf", "model", "safetensors"),
        ("hf-bin", "pytorch_model", "bin"),
        ("hf-broken", "model", "safetensors"),
    ):
        Path(folder, "tokens").mkdir(parents=True)
        weight_map = {}
        for at, half in enumerate(halves, start=1):
            name = f"{stem}-{at:05}-of-00002.{suffix}"
            weight_map |= dict.fromkeys(half, name)
            (torch.save if suffix == "bin" else save_file)(half, f"{folder}/{name}")
        index = {"metadata": {"total_size": 12345}, "weight_map": weight_map}
        Path(folder, f"{stem}.{suffix}.index.json").write_text(json.dumps(index, indent=2))
        Path(folder, "config.json").write_text('{"model_type": "net"}\n')
        Path(folder, "tokens", "vocabulary.txt").write_text("a\nb\n")
    Path("hf-broken/model-00002-of-00002.safetensors").unlink()
    for each in pins_of("index", INDEXES):
        folder = Path("indexes", each.name.removeprefix("index: "))
        folder.mkdir(parents=True)
        save_file({"a": torch.ones(2), "b": torch.ones(3)}, folder / "one.safetensors")
        (folder / "model.safetensors.index.json").write_text(each.lines[0])
    for folder in ("hf-one", "hf-two"):
        Path(folder).mkdir()
        save_file(net, f"{folder}/model.safetensors", {"format": "pt"})
        Path(folder, "config.json").write_text("{}")
    torch.save(net_state(2), "hf-two/pytorch_model.bin")
    Path("hub/blobs").mkdir(parents=True)
    Path("hub/snapshots/main").mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        shutil.copyfile(f"hf-one/{name}", f"hub/blobs/{name}.blob")
        Path("hub/snapshots/main", name).symlink_to(f"../../blobs/{name}.blob")
    Path("empty").mkdir()


def make_models() -> None:
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(40)
        state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, "squeeze.pth")
    prefixed = {f"module.{key}": each for key, each in state.items()}
    torch.save({"epoch": 1, "state_dict": prefixed}, "squeeze-prefixed.pt")
    weights = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    cache = Path(os.environ["TORCH_HOME"], "hub", "checkpoints")
    cache.mkdir(parents=True)
    shutil.copy("squeeze.pth", cache / os.path.basename(weights.url))
    save_file({"a": Draws(41)(3, 3)}, "squeezenet1_1")


def make_batch() -> None:
    names = ("a.safetensors", "b.pt", "c c.pt")
    Path("batch").mkdir()
    Path("twin").mkdir()
    for at, name in enumerate(names):
        draw = Draws(50 + at)
        state = {"a.weight": draw(30, 20), "q.weight": draw(20, 20), "a.bias": draw(30)}
        (torch.save if name.endswith(".pt") else save_file)(state, f"batch/{name}")
    shutil.copy("batch/b.pt", "twin/b.pt")
    paths = [f"batch/{name}" for name in names]
    Path("batch/list.txt").write_text("".join(f"{path}\n" for path in paths))
    Path("batch/list0.txt").write_text("".join(f"{path}\0" for path in paths))
    Path("batch/one.txt").write_text("batch/a.safetensors\n")
    Path("batch/none.txt").write_text("\n")


def make_broken() -> None:
    whole, archive = Path("net.safetensors").read_bytes(), Path("net.pt").read_bytes()
    at = archive.index(data_of(net_state(1)["features.0.weight"])) + 5
    for name, data in {
        "empty.safetensors": b"",
        "short.safetensors": whole[:4],
        "truncated.safetensors": whole[:-100],
        "overlong.safetensors": whole + b"more",
        "badjson.safetensors": struct.pack("<Q", 20) + b'{"a": {"dtype": "F32'.ljust(20),
        "badoffsets.safetensors": whole.replace(b'"data_offsets":[0,', b'"data_offsets":[4,', 1),
        "pointer.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n",
        "page.safetensors": b"<!DOCTYPE html>\n<html><body>404</body></html>\n",
        "squeezed.pt.gz": b"\x1f\x8b\x08\x00" + whole[8:40],
        "hdf5.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "text.pt": b"some text\n",
        "cut.pt": archive[:-200],
        "cut-legacy.pt": Path("net-legacy.pt").read_bytes()[:-10],
        "damaged.pt": archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :],
        "pickled.pt": pickle.dumps({"a": [1, 2]}, 2),
    }.items():
        Path(name).write_bytes(data)
    Path("headers").mkdir()
    for each in pins_of("header", HEADERS):
        name = each.name.removeprefix("header: ")
        Path("headers", name).write_bytes(with_header(each.lines[0], bytes(8)))
    with zipfile.ZipFile("array.npz", "w") as file:
        file.writestr(zipfile.ZipInfo("a.npy"), b"\x93NUMPY\x01\x00")
    with zipfile.ZipFile("net.pt") as source, zipfile.ZipFile("compressed.pt", "w") as file:
        for info in source.infolist():
            deflated = zipfile.ZIP_DEFLATED
            file.writestr(zipfile.ZipInfo(info.filename), source.read(info), deflated)
    with zipfile.ZipFile("script.pt", "w") as file:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py", "m/version"):
            file.writestr(zipfile.ZipInfo(name), b"\x80\x02N.")


# --- running a pin ---------------------------------------------------------------------------


@dataclass
class Line:
    """A command line, read.

    Attributes:
        args: what stands behind the program's name.
        environment: variables that are set for it.
        stdin: the file on standard input.
        is_piped: whether that comes through a pipe.
        output: the file that standard output goes to.
        terminals: which of the streams 1 and 2 are terminals.
    """

    args: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    stdin: str = os.devnull
    is_piped: bool = False
    output: str | None = None
    terminals: set[int] = field(default_factory=set)


def read_line(text: str) -> Line:
    """Read `@terminal @errors NAME=value ARGS < FILE > FILE`, all but ARGS optional.

    `@terminal` makes a terminal of standard output, `@errors` of standard error, and `<|` is a
    pipe from a file.
    """
    line = Line([])
    words = iter(shlex.split(text))
    for word in words:
        if word in ("@terminal", "@errors"):
            line.terminals.add(1 if word == "@terminal" else 2)
        elif not line.args and re.match(r"[A-Z][A-Z_]*=", word):
            name, _, line.environment[name] = word.partition("=")
        elif word in ("<", "<|"):
            line.stdin, line.is_piped = next(words), word == "<|"
        elif word == ">":
            line.output = next(words)
        else:
            line.args.append(word)
    return line


def run_pin(each: Pin, root: Path) -> dict[str, Any]:
    """Run a pin in a new folder, and return what it did."""
    folder = root / "here"
    folder.mkdir()
    copy_inputs(each, root / "inputs", folder)
    before = files_in(folder)
    os.chdir(folder)
    done: dict[str, Any] = {}
    for at, text in enumerate(each.lines, start=1):
        prefix = f"{at} " if len(each.lines) > 1 else ""
        done |= {prefix + name: value for name, value in run_line(text).items()}
    after = files_in(folder)
    os.chdir(root)
    shutil.rmtree(folder)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            done[f"file {name}"] = after.get(name, "removed")
    return done


def copy_inputs(each: Pin, inputs: Path, folder: Path) -> None:
    """Copy what the command lines of a pin name."""
    for source in sorted(inputs.iterdir()):
        name = re.compile(rf"(?<![\w-]){re.escape(source.name)}(?![\w-])")
        if source.name not in each.also and not any(map(name.search, each.lines)):
            continue
        if source.is_dir():
            shutil.copytree(source, folder / source.name, symlinks=True)
        else:
            shutil.copyfile(source, folder / source.name)


def files_in(folder: Path) -> dict[str, str]:
    """Return the digest of every file; links and empty folders are named as such."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif not path.is_dir():
            is_text = path.suffix in (".json", ".html", ".svg")
            found[name] = digest(steady(path.read_bytes()) if is_text else path.read_bytes())
        elif not any(path.iterdir()):
            found[name] = "empty folder"
    return found


def run_line(text: str) -> dict[str, Any]:
    """Run a line and return what it did.

    `@flip FILE PLACE` changes a bit, `@link TARGET NAME` makes a link, `@python NAME` runs a
    function, and all else is a command line.
    """
    is_own = text.startswith(("@flip", "@link", "@python"))
    word, *args = text.split(" ") if is_own else ("",)
    if word == "@flip":
        flip(*args)
        return {}
    if word == "@link":
        os.symlink(*args)
        return {}
    if word == "@python":
        try:
            returned = PYTHON[args[0]]()
        except Exception as error:  # noqa: BLE001 (a bug is pinned as well)
            returned = f"raised {type(error).__name__}: {error}"
        return told("returned", repr(returned).encode())
    return run_command(read_line(text))


def flip(path: str, place: str) -> None:
    """Change a bit of a safetensors file: at an offset, or in the tensor of a key."""
    data = bytearray(Path(path).read_bytes())
    if place.isdecimal():
        at = int(place)
    else:
        start = 8 + int.from_bytes(data[:8], "little")
        at = start + json.loads(data[8:start])[place]["data_offsets"][0]
    data[at] ^= 1
    Path(path).write_bytes(data)


def run_command(line: Line) -> dict[str, Any]:
    """Run a command line in this process and return its exit code and what it printed."""
    from reinit_cli.cli import main

    os.environ.update(line.environment)
    with captured(line) as streams:
        try:
            code: object = main(line.args)
        except SystemExit as stop:
            code = stop.code
        except Exception as error:  # noqa: BLE001 (a bug is pinned as well)
            code = f"raised {type(error).__name__}: {error}"
    restore_environment()
    out, err = streams
    if line.output is not None:
        Path(line.output).write_bytes(out)
        out = b""
    return {"exit": code} | told("stdout", out) | told("stderr", err)


@contextmanager
def captured(line: Line) -> Iterator[list[bytearray]]:
    """Give the process other standard streams, and yield what is written to them."""
    kept = [os.dup(number) for number in (0, 1, 2)]
    python = sys.stdin, sys.stdout, sys.stderr
    streams = [bytearray(), bytearray()]
    threads = []
    if line.is_piped:
        reading, writing = os.pipe()
        threads.append(threading.Thread(target=pour, args=(line.stdin, writing), daemon=True))
    else:
        reading = os.open(line.stdin, os.O_RDONLY)
    os.dup2(reading, 0)
    os.close(reading)
    for number, written in zip((1, 2), streams, strict=True):
        ours, theirs = pty.openpty() if number in line.terminals else os.pipe()
        os.dup2(theirs, number)
        os.close(theirs)
        threads.append(threading.Thread(target=watch, args=(ours, written), daemon=True))
    for each in threads:
        each.start()
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    try:
        yield streams
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = python
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, number)
            os.close(descriptor)
        for each in threads:
            each.join(timeout=60)
            assert not each.is_alive(), f"{line.args} left a stream open"


def pour(path: str, descriptor: int) -> None:
    """Write a file into a pipe, as far as anybody reads it."""
    with open(descriptor, "wb", buffering=0) as pipe:
        try:
            pipe.write(Path(path).read_bytes())
        except BrokenPipeError:
            return


def watch(descriptor: int, written: bytearray) -> None:
    """Read a pipe or a terminal until nobody writes to it any more."""
    with open(descriptor, "rb", buffering=0) as stream:
        while True:
            try:
                data = stream.read(2**16)
            except OSError:  # Linux's way to say that nobody has the other end of a terminal
                return
            if not data:
                return
            written += data


def told(name: str, data: bytes) -> dict[str, Any]:
    """Return the digest of a text and its beginning; nothing where it is empty."""
    data = steady(bytes(data))
    if not data:
        return {}
    return {name: {"sha256": digest(data), "starts": data.decode(errors="replace")[:SHOWN]}}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


_SECONDS = re.compile(rb'(seconds"?:?(?:\s|\x1b\[[0-9;]*m)*)\d[\d.e+-]*')


def steady(data: bytes) -> bytes:
    """Return a text without what differs from run to run: durations and the temporary folder."""
    data = _SECONDS.sub(rb"\1<seconds>", data)
    return data.replace(os.environ["PINS_ROOT"].encode(), b"<root>")


# --- the two commands ------------------------------------------------------------------------

_ENVIRONMENT: dict[str, str] = {}
"""The variables that all pins have: no user's settings, and no network."""


def restore_environment() -> None:
    os.environ.clear()
    os.environ.update(_ENVIRONMENT)


def set_environment(root: Path) -> None:
    kept = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH")
    folders = {"HOME": "home", "XDG_CACHE_HOME": "cache", "TORCH_HOME": "torch", "TMPDIR": "tmp"}
    for folder in folders.values():
        (root / folder).mkdir()
    _ENVIRONMENT.update({name: os.environ[name] for name in kept if name in os.environ})
    _ENVIRONMENT.update({name: str(root / folder) for name, folder in folders.items()})
    _ENVIRONMENT.update(dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9"))
    _ENVIRONMENT.update(PINS_ROOT=str(root), COLUMNS="100", TERM="xterm", REINIT_STREAM=TORCH)
    restore_environment()
    tempfile.tempdir = _ENVIRONMENT["TMPDIR"]


def print_pins(only: str, spelled: Mapping[str, str]) -> int:
    """Run every pin that matches, and print the digests as JSON.

    Args:
        only: what the names of the pins match.
        spelled: for words of the command lines, how this checkout spells them.
    """
    import reinit_cli

    started = time.monotonic()
    home = os.path.dirname(str(reinit_cli.__file__))
    hide_version(home)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    pins = [each for each in table() if fnmatch.fnmatchcase(each.name, only)]
    with tempfile.TemporaryDirectory(prefix="pins-") as folder:
        root = Path(folder).resolve()
        set_environment(root)
        (root / "inputs").mkdir()
        os.chdir(root / "inputs")
        make_inputs()
        inputs = files_in(root / "inputs")
        found = {"inputs": {f"file {name}": value for name, value in inputs.items()}}
        found |= {each.name: run_pin(respelled(each, spelled), root) for each in pins}
        os.chdir("/")
    check_home(home)
    names = ("torch", "torchvision", "safetensors", "click", "rich")
    versions = {name: version(name) for name in names}
    form = {"package": home, "versions": versions, "pins": found}
    json.dump(form, sys.stdout, indent=1)
    sys.stdout.write("\n")
    seconds = time.monotonic() - started
    sys.stderr.write(f"{len(found)} pins of {home} in {seconds:.0f} s\n")
    return 0


def respelled(each: Pin, spelled: Mapping[str, str]) -> Pin:
    words = [[spelled.get(word, word) for word in line.split(" ")] for line in each.lines]
    return each._replace(lines=tuple(map(" ".join, words)))


def hide_version(home: str) -> None:
    """Give the package the version 0, since another version alone is no difference.

    Records, pages and texts hold it. It is in the package itself, or in a module of its own.
    """
    for name in ("reinit_cli", "reinit_cli.version"):
        found = find_spec(name)
        if found is not None and str(found.origin).startswith(f"{home}/"):
            import_module(name).__dict__["__version__"] = "0"


def check_home(home: str) -> None:
    """Refuse modules of another checkout, which an editable installation could add."""
    files = {
        name: str(module.__file__)
        for name, module in sys.modules.items()
        if name.startswith("reinit_cli.")
    }
    strangers = [name for name, file in files.items() if not file.startswith(f"{home}/")]
    assert not strangers, f"not of {home}: {strangers}"


def compare(first: str, second: str, *, files_only: bool) -> int:
    """Print a line for each pin that differs; return the exit code."""
    old, new = (json.loads(Path(path).read_text()) for path in (first, second))
    if old["versions"] != new["versions"]:
        sys.stderr.write(f"made with {old['versions']} and {new['versions']}\n")
    before, after = old["pins"], new["pins"]
    names = [*before, *(name for name in after if name not in before)]
    lines = [difference(before.get(name), after.get(name), files_only) for name in names]
    for name, line in zip(names, lines, strict=True):
        if line:
            sys.stdout.write(f"{name}: {line}\n")
    count = sum(map(bool, lines))
    sys.stderr.write(f"{count} of {len(names)} pins differ\n")
    return 1 if count else 0


_Done = Mapping[str, Any]


def difference(old: _Done | None, new: _Done | None, files_only: bool) -> str:
    """Return how two pins differ, in a line; "" where they do not."""
    if old is None or new is None:
        return "new" if old is None else "missing"
    return "; ".join(
        f"{part} {parted(old.get(part), new.get(part))}"
        for part in dict.fromkeys((*old, *new))
        if old.get(part) != new.get(part)
        and not (files_only and isinstance(old.get(part, new.get(part)), dict))
    )


def parted(mine: Any, theirs: Any) -> str:
    """Return where two texts part, or two digests."""
    if not isinstance(mine, dict) or not isinstance(theirs, dict):
        return f"{brief(mine)} → {brief(theirs)}"
    texts = mine["starts"], theirs["starts"]
    if texts[0] == texts[1]:
        return f"differs after its first {len(texts[0])} characters"
    pairs = enumerate(zip(*texts, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(map(len, texts)))
    return " → ".join(repr(text[max(0, at - 20) : at + 60]) for text in texts)


def brief(value: Any) -> str:
    if isinstance(value, dict):
        return repr(value["starts"][:80])
    text = "nothing" if value is None else str(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text[:80]


def command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    printing = commands.add_parser("print", help="run the pins and print their digests")
    printing.add_argument("--only", default="*", metavar="GLOB", help="run those of these names")
    printing.add_argument(
        "--spell",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="replace a word of the command lines, such as an option that has another name now",
    )
    comparing = commands.add_parser("compare", help="tell which pins differ; exit 1 if any does")
    comparing.add_argument("--files", action="store_true", help="leave out what was printed")
    comparing.add_argument("before")
    comparing.add_argument("after")
    return parser.parse_args()


if __name__ == "__main__":
    asked = command_line()
    if asked.command == "print":
        sys.exit(print_pins(asked.only, dict(each.split("=", 1) for each in asked.spell)))
    sys.exit(compare(asked.before, asked.after, files_only=asked.files))
