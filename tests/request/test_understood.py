"""What people type instead of a rule, and what it means."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reinit_cli.cli.hints import hint_of
from reinit_cli.errors import ArgumentError, ReinitError, RuleError, UnknownNameError
from reinit_cli.initializers import REGISTRY, parse_init
from reinit_cli.request.rule import Rule
from reinit_cli.streams.torch.stream import TorchStream

UNDERSTOOD = {
    # torch's calls
    "normal(std=0.02)": "normal:std=0.02",
    "normal(0, 0.02)": "normal:mean=0,std=0.02",
    "normal()": "normal",
    "zeros()": "zeros",
    "nn.init.normal_": "normal",
    "init.zeros_": "zeros",
    "torch.nn.init.xavier_uniform_": "xavier_uniform",
    "nn.init.normal_(w, 0, 0.01)": "normal:mean=0,std=0.01",
    "nn.init.normal_(m.weight, mean=0.0, std=0.02)": "normal:mean=0,std=0.02",
    "nn.init.zeros_(self.fc.bias)": "zeros",
    "nn.init.constant_(m.bias, 0.1)": "constant:0.1",
    "nn.init.kaiming_normal_(m.weight, mode='fan_out', nonlinearity='relu')": (
        "kaiming_normal:mode=fan_out,nonlinearity=relu"
    ),
    "xavier_uniform(gain=nn.init.calculate_gain('relu'))": "xavier_uniform:gain=relu",
    # other marks between a name and its arguments
    "normal,std=0.02": "normal:std=0.02",
    "normal std=0.02": "normal:std=0.02",
    "normal:std:0.02": "normal:std=0.02",
    "normal:std=0.02;mean=1": "normal:std=0.02,mean=1",
    "normal:mean:0,std:0.02": "normal:mean=0,std=0.02",
    "normal = 0, 0.02": "normal:mean=0,std=0.02",
    "normal=std=0.02": "normal:std=0.02",
    "normal:(std=0.02)": "normal:std=0.02",
    "normal[std=0.02]": "normal:std=0.02",
    "normal : std = 0.02 , mean = 1": "normal:std=0.02,mean=1",
    # other spellings of names
    "Normal:std=0.02": "normal:std=0.02",
    "ZEROS": "zeros",
    "KaimingNormal:relu": "kaiming_normal:relu",
    "kaiming-normal:relu": "kaiming_normal:relu",
    "kaiming normal:relu": "kaiming_normal:relu",
    "trunc_normal_:std=0.02": "trunc_normal:std=0.02",
    "HE_NORMAL": "kaiming_normal",
    "GlorotUniform": "xavier_uniform",
    "gaussian:std=0.02": "normal:std=0.02",
    "randn": "normal",
    "torch.randn": "normal",
    "zero": "zeros",
    "zeroes": "zeros",
    "one": "ones",
    "const:0.5": "constant:0.5",
    "full:0.5": "constant:0.5",
    # numbers
    "0": "zeros",
    "0.0": "zeros",
    "1": "ones",
    "0.5": "constant:0.5",
    "-1": "constant:-1",
    "1e-3": "constant:0.001",
    # other names of arguments
    "normal:sigma=0.02": "normal:std=0.02",
    "normal:mu=0,sigma=0.02": "normal:mean=0,std=0.02",
    "normal:stddev=0.02": "normal:std=0.02",
    "normal:Std=1": "normal:std=1",
    "normal:loc=0,scale=0.02": "normal:mean=0,std=0.02",
    "uniform:low=-1,high=1": "uniform:a=-1,b=1",
    "uniform:minval=-1,maxval=1": "uniform:a=-1,b=1",
    "constant:value=2": "constant:2",
    "kaiming_normal:negative_slope=0.2": "kaiming_normal:a=0.2",
    "xavier_uniform:nonlinearity=relu": "xavier_uniform:gain=relu",
    "kaiming_normal:gain=relu": "kaiming_normal:nonlinearity=relu",
    "kaiming_normal:activation=relu": "kaiming_normal:nonlinearity=relu",
    # words
    "kaiming_normal:ReLU": "kaiming_normal:relu",
    "kaiming_normal:nn.ReLU": "kaiming_normal:relu",
    "kaiming_normal:nn.ReLU()": "kaiming_normal:relu",
    "kaiming_normal:F.relu,fan_out": "kaiming_normal:relu,fan_out",
    "xavier_uniform:swish": "xavier_uniform:silu",
    "xavier_uniform:SiLU": "xavier_uniform:silu",
    "xavier_uniform:leakyrelu": "xavier_uniform:leaky_relu",
    "xavier_uniform:nn.LeakyReLU(0.2)": "xavier_uniform:leaky_relu,a=0.2",
    "xavier_uniform:gain=nn.LeakyReLU(negative_slope=0.2)": "xavier_uniform:leaky_relu,a=0.2",
    "kaiming_normal:fan-out": "kaiming_normal:fan_out",
    "kaiming_uniform:mode=FAN_OUT": "kaiming_uniform:fan_out",
    'kaiming_uniform:mode="fan_out"': "kaiming_uniform:fan_out",
    "normal:std=0.02,keep_zeros": "normal:std=0.02,keep_zeros=true",
    "normal:std=0.02,keep_zeros=yes": "normal:std=0.02,keep_zeros=true",
    # what word processors and other keyboards write
    "“normal:std=0.02”": "normal:std=0.02",
    "'normal:std=0.02'": "normal:std=0.02",
    "normal：std＝0.02": "normal:std=0.02",
    "constant:–1": "constant:-1",
    "constant:−1": "constant:-1",
    # within another
    "block:parts=2,inner=normal(std=0.02)": "block:parts=2,inner=normal:mean=0.0;std=0.02",
    "block:parts=2,inner=gaussian": "block:parts=2,inner=normal:mean=0.0;std=1.0",
}


@pytest.mark.parametrize(("typed", "meant"), UNDERSTOOD.items(), ids=UNDERSTOOD)
def test_what_has_one_meaning_is_understood(typed: str, meant: str) -> None:
    rule, same = Rule.parse(f"fc.*={typed}"), Rule.parse(f"fc.*={meant}")

    assert rule == same or rule.init == same.init
    assert rule.serial() == same.serial()
    assert parse_init(str(rule.init)) == rule.init


@pytest.mark.parametrize("typed", UNDERSTOOD)
def test_what_is_understood_is_shown_as_rules_are_written(typed: str) -> None:
    rule = Rule.parse(f"fc.* = {typed}")

    assert rule.text == f"fc.*={rule.init}"
    assert Rule.parse(rule.text) == rule


def test_a_process_that_has_used_no_initializer_understands_the_same() -> None:
    """Families are imported when they are named, so each case has a process of its own."""
    program = (
        "import os, sys\n"
        "from reinit_cli.request.rule import Rule\n"
        "for typed in sys.argv[1:]:\n"
        "    if os.fork() == 0:\n"
        "        print(Rule.parse(f'fc.*={typed}').init, flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    typed = ("nn.init.normal_", "torch.nn.init.zeros_(w)", "kaiming-normal:relu", "torch.randn")

    done = subprocess.run(
        [sys.executable, "-c", program, *typed], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == [
        "normal:mean=0.0,std=1.0",
        "zeros",
        "kaiming_normal:mode=fan_in,nonlinearity=relu",
        "normal:mean=0.0,std=1.0",
    ]


REFUSED = {
    "normal:std=0,02": (
        "normal: the number 02 comes after the named argument std=0",
        "did you mean -r 'fc.*=normal:std=0.02', with a decimal point?",
    ),
    "normal:std=0.02,1": (
        "normal: the number 1 comes after the named argument std=0.02",
        "did you mean -r 'fc.*=normal:std=0.02,mean=1'?",
    ),
    "normal:mean=0,5,std=0,02": (
        "normal: the number 5 comes after the named argument mean=0",
        "did you mean -r 'fc.*=normal:mean=0.5,std=0.02', with a decimal point?",
    ),
    "shrink_perturb:factor=0,4": (
        "shrink_perturb: the number 4 comes after the named argument factor=0",
        "did you mean -r 'fc.*=shrink_perturb:factor=0.4', with a decimal point, or "
        "-r 'fc.*=shrink_perturb:factor=0,std=4'?",
    ),
    "uniform:a=0,5": (
        "uniform: the number 5 comes after the named argument a=0",
        "did you mean -r 'fc.*=uniform:a=0.5', with a decimal point, or -r 'fc.*=uniform:a=0,b=5'?",
    ),
    "normal(std=0.02, 1)": (
        "normal: the number 1 comes after the named argument std=0.02",
        "did you mean -r 'fc.*=normal:std=0.02,mean=1'?",
    ),
    "kaiming_normal:mode=fan_out,0.2": (
        "kaiming_normal: the number 0.2 comes after the named argument mode=fan_out",
        "did you mean -r 'fc.*=kaiming_normal:mode=fan_out,a=0.2'?",
    ),
    "uniform:min_ndim=2,1": (
        "uniform: the number 1 comes after the named argument min_ndim=2",
        "did you mean -r 'fc.*=uniform:min_ndim=2,a=1'?",
    ),
    "normal:0,02": (
        "normal: '02' is not a number of its own",
        "did you mean -r 'fc.*=normal:std=0.02', with a decimal point?",
    ),
    "constant:1,5": (
        "constant: 5 is one number too many",
        "did you mean -r 'fc.*=constant:1.5', with a decimal point?",
    ),
    "uniform:-0,1,0,1": (
        "uniform: 1 is one number too many",
        "did you mean -r 'fc.*=uniform:-0.1,0.1', with a decimal point?",
    ),
    "normal(0.02)": (
        "normal: 0.02 alone is ambiguous",
        "did you mean -r 'fc.*=normal:std=0.02' or -r 'fc.*=normal:mean=0.02'?",
    ),
    "he": ("unknown initializer 'he'", "did you mean kaiming_normal or kaiming_uniform?"),
    "glorot": ("unknown initializer 'glorot'", "did you mean xavier_uniform or xavier_normal?"),
    "lecun": ("unknown initializer 'lecun'", "did you mean lecun_normal or lecun_uniform?"),
    "gpt2": ("unknown initializer 'gpt2'", "did you mean normal:std=0.02?"),
    "random": (
        "unknown initializer 'random'",
        "did you mean normal:std=0.02 or uniform:a=-0.1,b=0.1?",
    ),
    "truncated_normal": (
        "unknown initializer 'truncated_normal'",
        "did you mean trunc_normal:std=0.02,in_std?",
    ),
    "freeze": ("unknown initializer 'freeze'", "did you mean keep?"),
    "std=0.02": ("unknown initializer 'std=0.02'", "did you mean normal:std=0.02?"),
    "normal:std=0.02,": (
        "normal: an argument is empty",
        "did you mean -r 'fc.*=normal:std=0.02'?",
    ),
}


@pytest.mark.parametrize(("typed", "said"), REFUSED.items(), ids=REFUSED)
def test_what_has_no_one_meaning_is_answered_with_the_corrected_rule(
    typed: str, said: tuple[str, str]
) -> None:
    with pytest.raises((RuleError, UnknownNameError)) as refused:
        Rule.parse(f"fc.*={typed}")

    assert (str(refused.value), hint_of(refused.value)) == said


WITHOUT_A_SPLIT = {
    "lm_head.weight:normal:std=0.02": "did you mean -r lm_head.weight=normal:std=0.02?",
    "lm_head.weight:zeros": "did you mean -r lm_head.weight=zeros?",
    "lm_head.* zeros": "did you mean -r 'lm_head.*=zeros'?",
    "lm_head.weight normal:std=0.02": "did you mean -r lm_head.weight=normal:std=0.02?",
    "lm_head.weight->zeros": "did you mean -r lm_head.weight=zeros?",
    "lm_head.weight => zeros": "did you mean -r lm_head.weight=zeros?",
    "lm_head.weight,zeros": "did you mean -r lm_head.weight=zeros?",
    "lm_head.weight＝zeros": "did you mean -r lm_head.weight=zeros?",
    "lm_head.weight normal(std=0.02)": ("did you mean -r lm_head.weight=normal:mean=0.0,std=0.02?"),
    "lm_head.weight": "give it an initializer, such as -r lm_head.weight=zeros",
    "normal:std=0.02": "say which tensors: -r '*.weight=normal:std=0.02'",
}


@pytest.mark.parametrize(("typed", "hint"), WITHOUT_A_SPLIT.items(), ids=WITHOUT_A_SPLIT)
def test_a_rule_without_its_equals_sign_is_answered_with_the_rule(typed: str, hint: str) -> None:
    with pytest.raises(RuleError) as refused:
        Rule.parse(typed)

    assert hint_of(refused.value) == hint


def test_spaces_around_the_equals_sign_are_no_part_of_the_pattern() -> None:
    assert Rule.parse(" fc.weight = zeros ") == Rule.parse("fc.weight=zeros")
    assert Rule.parse("a b.weight =zeros").pattern.matches("a b.weight")
    assert Rule.parse("fc.weight[ ]=zeros").pattern.matches("fc.weight ")


def test_the_number_of_torch_s_call_is_the_number_that_is_drawn() -> None:
    """What is copied from code fills as the code does."""
    typed = "nn.init.normal_(w, 0.5, 0.02)"
    law = parse_init(typed).law((64, 64))
    expected = torch.nn.init.normal_(
        torch.empty(64, 64), 0.5, 0.02, torch.Generator().manual_seed(3)
    )

    drawn = torch.empty(64, 64)
    assert law is not None
    law.fill(drawn.numpy(), TorchStream().chance(3, "cpu"))

    assert torch.equal(drawn, expected)


def test_recipes_and_python_take_the_same_words() -> None:
    rule = Rule.of("fc.*", "nn.init.Gaussian_", sigma="0.02")

    assert rule == Rule.of("fc.*", "normal", std=0.02)
    assert rule.serial() == {"match": "fc.*", "init": "normal", "mean": 0.0, "std": 0.02}
    with pytest.raises(ArgumentError, match="std must be a number of at least 0, not '0,02'"):
        Rule.of("fc.*", "normal", std="0,02")


NAMES = st.sampled_from(sorted(each.name for each in REGISTRY))
MARKS = st.text("=:,; ()[]'\"“”–.＝0123456789abcdefghimnorstux_", max_size=20)


@given(NAMES, MARKS)
def test_whatever_is_understood_is_printed_as_a_rule_that_means_the_same(
    name: str, rest: str
) -> None:
    try:
        init = parse_init(f"{name}{rest}")
    except ReinitError:
        return

    assert str(parse_init(str(init))) == str(init)
    assert parse_init(str(init)).initializer is init.initializer


@given(
    st.sampled_from(["normal", "uniform", "kaiming_normal"]), st.floats(0, 9), st.integers(0, 99)
)
def test_no_number_after_a_named_argument_fills_anything(
    name: str, first: float, second: int
) -> None:
    for parameter in REGISTRY[name].parameters:
        with pytest.raises(ArgumentError):
            parse_init(f"{name}:{parameter.name}={first},{second}")
