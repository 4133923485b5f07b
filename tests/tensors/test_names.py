"""Names of dtypes and devices, as torch, safetensors, papers and people have them."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import _TYPES

from reinit_cli.cli.hints import hint_of
from reinit_cli.errors import UnknownNameError
from reinit_cli.tensors.device import check_device, device_named
from reinit_cli.tensors.dtype import DTYPES, dtype_named

ALIASES = ["float", "double", "half", "long", "int", "short", "cfloat", "cdouble", "chalf"]


@pytest.mark.parametrize("name", ALIASES)
@pytest.mark.parametrize("prefix", ["", "torch."])
def test_torch_s_aliases_are_the_dtypes_that_torch_has_for_them(prefix: str, name: str) -> None:
    assert f"torch.{dtype_named(prefix + name).name}" == str(getattr(torch, name))


@pytest.mark.parametrize(
    "name", [each for each in _TYPES if not each.startswith(("F4", "F6", "E8"))]
)
def test_the_names_of_safetensors_are_its_dtypes(name: str) -> None:
    if str(_TYPES[name]).removeprefix("torch.") in DTYPES:
        assert f"torch.{dtype_named(name).name}" == str(_TYPES[name])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("fp32", "float32"),
        ("FP16", "float16"),
        ("bf16", "bfloat16"),
        ("BFloat16", "bfloat16"),
        ("torch.bfloat16", "bfloat16"),
        ("np.float32", "float32"),
        ("fp64", "float64"),
        ("single", "float32"),
        ("'float16'", "float16"),
        ("fp8_e4m3", "float8_e4m3fn"),
        ("float8-e5m2", "float8_e5m2"),
        ("e4m3fn", "float8_e4m3fn"),
    ],
)
def test_other_names_with_one_meaning_are_understood(typed: str, meant: str) -> None:
    assert dtype_named(typed).name == meant


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("fp8", "did you mean float8_e4m3fn or float8_e5m2?"),
        ("16", "did you mean float16 or bfloat16?"),
        ("tf32", "did you mean float32?"),
        ("flaot32", "did you mean float32?"),
        ("nit64", "did you mean int64 or uint64?"),
        ("q4_k_m", "use torch's names, such as bfloat16"),
    ],
)
def test_names_with_no_one_meaning_are_answered_with_what_is_near(typed: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as refused:
        dtype_named(typed)

    assert (str(refused.value), hint_of(refused.value)) == (f"unknown dtype {typed!r}", hint)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("CUDA", "cuda"),
        ("Cuda:1", "cuda:1"),
        ("cuda1", "cuda:1"),
        ("gpu", "mps" if sys.platform == "darwin" else "cuda"),
        ("nvidia", "cuda"),
        ("0", "cuda:0"),
        ("3", "cuda:3"),
        ("CPU", "cpu"),
        ("cpu:0", "cpu"),
        ("MPS", "mps"),
        ("metal", "mps"),
        ("Auto", "auto"),
        ("torch.device('cuda:1')", "cuda:1"),
    ],
)
def test_names_of_devices_are_torch_s_where_one_can_be_meant(typed: str, meant: str) -> None:
    assert device_named(typed) == meant
    if meant != "auto":
        torch.device(device_named(typed))


@pytest.mark.parametrize(
    "typed", ["tpu", "xpu:0", "", "auto:1", "cpu:1", "cuda:1:2", "cuda:1234", "gpu box"]
)
def test_other_names_of_devices_stay_as_they_are(typed: str) -> None:
    assert device_named(typed) == typed


def test_a_device_that_this_machine_lacks_is_named_with_those_that_it_has() -> None:
    with pytest.raises(UnknownNameError, match=r"^device 'tpu' is not available \(available: cpu"):
        check_device("tpu")
    assert check_device("CPU") == check_device("cpu:0") == "cpu"
