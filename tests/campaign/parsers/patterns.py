"""Fuzz patterns: globs against `fnmatch`, regular expressions against `re.fullmatch`."""

from __future__ import annotations

import fnmatch
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import FrameType

from tests.campaign.parsers.checkpoints import KEYS, write_tiny
from tests.campaign.parsers.commands import Input, text_of, try_all
from tests.campaign.server import Run, Servers
from tests.campaign.tally import Tally


def run(random: Random, count: int, place: Path, servers: Servers) -> Tally:
    """Match odd patterns on the command line, in rules and in completion."""
    tally = Tally()
    write_tiny(place)
    warnings.simplefilter("ignore", FutureWarning)
    try_all(_inputs(random, count), place, servers.light, tally)
    return tally


def _inputs(random: Random, count: int) -> Iterator[Input]:
    for _ in range(count):
        seed = random.getrandbits(48)
        pattern = odd_pattern(Random(seed))
        what = f"patterns.odd_pattern(Random({seed})) = {pattern[:80]!r}"
        source = "tiny.safetensors"
        way = random.randrange(6)
        if way < 3:
            yield Input(f"keys {what}", ("keys", source, "--", pattern), _judge(pattern), "keys")
        elif way == 3:
            yield Input(f"-r {what}", (source, "-n", "-r", f"{pattern}=zeros"), kind="rule")
        elif way == 4:
            yield Input(
                f"--resize {what}", (source, "-n", "--resize", f"{pattern}=9:zeros"), kind="resize"
            )
        else:
            line = f"reinit keys {source} {pattern}"
            yield Input(
                f"completion {what}", ("completion", "bash", "--line", line), kind="completion"
            )


def _judge(pattern: str) -> Callable[[Run], str | None]:
    """Return the keys that the standard library matches, where it has such patterns."""

    def judge(run: Run) -> str | None:
        if run.code not in {0, 1}:
            return None
        expected = _expected(pattern)
        if expected is None:
            return None
        found = run.out.decode().splitlines()
        return None if found == expected else f"{found} match, and not {expected}"

    return judge


def _expected(pattern: str) -> list[str] | None:
    if pattern.startswith("re:"):
        return _by_engine(pattern.removeprefix("re:"))
    # Braces are ours; and of brackets, what fnmatch says depends on what closes them.
    if set(pattern) & set("{}[]"):
        return None
    return [key for key in KEYS if fnmatch.fnmatchcase(key, pattern)]


def _by_engine(source: str) -> list[str] | None:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        compiled = re.compile(source)
        return [key for key in KEYS if compiled.fullmatch(key)]
    except TimeoutError:
        return None
    except (re.error, RecursionError, OverflowError):
        return []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def odd_pattern(random: Random) -> str:
    """Return a pattern, of a kind that is slow to match where one can be."""
    kind = random.randrange(8)
    if kind == 0:
        return text_of(random) or "*"
    if kind < 4:
        return "re:" + _regex(random, random.randrange(1, 5))
    if kind == 4:
        part = random.choice(
            ("*{a,aa}", "{a,b}", "*a", "{a,aa,aaa}", "?*", "[a-z]*", "{0..9}", "**", "{a,{b,*}}")
        )
        return part * random.choice((1, 2, 3, 5, 13, 40, 300)) + random.choice(("", "b", "!", "$"))
    if kind == 5:
        return "".join(random.choices("a.*?*layers0123", k=random.randrange(1, 15)))
    return _glob(random, 3)


def _glob(random: Random, depth: int) -> str:
    parts = []
    for _ in range(random.randrange(1, 5)):
        choice = random.randrange(8 if depth else 5)
        if choice < 5:
            parts.append(
                random.choice(
                    (
                        "a",
                        "*",
                        "?",
                        ".",
                        "weight",
                        "layers",
                        "[ab]",
                        "[!a]",
                        "[a-z]",
                        "[]]",
                        "[*]",
                        "0",
                    )
                )
            )
        elif choice == 5:
            parts.append(
                f"{{{random.choice(('0', '-2', '08', '1', '9999'))}..{random.choice(('3', '-1', '10', '99999'))}}}"
            )
        else:
            parts.append(
                "{"
                + ",".join(_glob(random, depth - 1) for _ in range(random.randrange(1, 4)))
                + "}"
            )
    return "".join(parts)


def _regex(random: Random, depth: int) -> str:
    if not depth or random.randrange(4) == 0:
        return random.choice(
            (
                *"ab.!",
                r"\w",
                r"\d",
                r"[^b]",
                "[a-z]",
                "a|aa",
                r"\b",
                "^",
                "$",
                "weight",
                r"\.",
                "()",
                "layers",
            )
        )
    inner = _regex(random, depth - 1)
    kind = random.randrange(14)
    if kind < 4:
        return inner + _regex(random, depth - 1)
    if kind < 8:
        count = random.choice(
            ("*", "+", "?", "{2}", "{0,50}", "{3,}", "*?", "+?", "{1000}", "*+", "++")
        )
        return f"({inner}){count}"
    if kind == 8:
        return f"({inner}|{_regex(random, depth - 1)})"
    if kind == 9:
        return f"(?{random.choice(('=', '!', '<=', '<!', ':', '>'))}{inner})"
    if kind == 10:
        return f"({inner})\\1"
    if kind == 11:
        return f"(?{random.choice('imsxau')}:{inner})"
    if kind == 12:
        return f"(?P<n>{inner})(?(n)a|b)"
    return inner * random.choice((2, 10, 100))
