"""Choose the words that may complete a command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import click

from reinit_cli.cli.group import COMMANDS, DEFAULT, HELP, group
from reinit_cli.cli.help import Command, names_of
from reinit_cli.streams.stream import FAMILIES, STREAMS


def with_next(candidates: list[str], before: Sequence[str]) -> list[str]:
    """Add to a lone unfinished candidate what it may become.

    A shell closes the quotes after a lone candidate, and what follows would be outside them.
    """
    if len(candidates) != 1 or candidates[0].endswith(" "):
        return candidates
    return list(dict.fromkeys([*candidates, *candidates_for(before, candidates[0])]))


def candidates_for(before: Sequence[str], word: str) -> list[str]:
    """Return the candidates for a word; finished ones end in a space.

    Args:
        before: the words between the program's name and it.
        word: what is written of it.
    """
    if [*before] == [HELP]:
        return _starting(COMMANDS, word)
    name = before[0] if before and before[0] in COMMANDS else None
    found = group.get_command(click.Context(group), name or DEFAULT)
    assert found is not None
    values = _Values(found, before[1:] if name else before)
    candidates = values.candidates(word)
    if before:
        return candidates
    commands = _starting((*COMMANDS, HELP, "--help", "--version"), word)
    # The default one may be left out, so its options and sources may stand here too.
    return list(dict.fromkeys([*commands, *candidates])) if word else commands


class _Values:
    """The options and arguments of a command, as far as they are written."""

    def __init__(self, found: click.Command, words: Sequence[str]) -> None:
        shown = [each for each in found.params if isinstance(each, click.Option)]
        shown = [each for each in shown if not each.hidden]
        self.options = {name: each for each in shown for name in names_of(each)}
        self.others = {name: each for each in shown for name in (*each.opts, *each.secondary_opts)}
        self.former = found.former_names() if isinstance(found, Command) else {}
        self.arguments = [each for each in found.params if isinstance(each, click.Argument)]
        self.pending: click.Option | None = None
        self.given: list[str] = []
        self.chosen: dict[str | None, str] = {}
        self.has_options = True
        for word in words:
            self._read(word)

    def _read(self, word: str) -> None:
        if self.pending is not None:
            self.chosen[self.pending.name], self.pending = word, None
        elif not self._is_option(word):
            self.given.append(word)
        elif word == "--":
            self.has_options = False
        else:
            option, value = self._option(self.former.get(word, word))
            if option is not None and value:
                self.chosen[option.name] = value.removeprefix("=")
            elif option is not None:
                self.pending = option

    def _is_option(self, word: str) -> bool:
        return self.has_options and word.startswith("-") and len(word) > 1

    def _option(self, word: str) -> tuple[click.Option | None, str]:
        """Return the option of a word that takes a value, and what is written of that.

        Short ones may stand together, with the value after the last: `-nrPATTERN=INIT`.
        """
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            return self._taking(name), equals + value
        for at, char in enumerate(word[1:], start=2):
            option = self._taking(f"-{char}")
            if option is not None:
                return option, word[at:]
        return None, ""

    def _taking(self, name: str) -> click.Option | None:
        option = self.others.get(self.former.get(name, name))
        return option if option and not (option.is_flag or option.count) else None

    def candidates(self, word: str) -> list[str]:
        """Return the candidates for the next word."""
        if self.pending is not None:
            return self._values(self.pending, word)
        if self.has_options and word.startswith("-"):
            option, value = self._option(word)
            if option is not None and value:
                start = value[1:] if word.startswith("--") else value
                stem = word[: len(word) - len(start)]
                return [stem + each for each in self._values(option, start)]
            # Those that unset what a recipe sets are rare, and would be half of the list.
            return _starting(self.others if word.startswith("--no") else self.options, word)
        argument = self._argument()
        return self._values(argument, word) if argument is not None else []

    def _argument(self) -> click.Argument | None:
        left = len(self.given)
        for argument in self.arguments:
            if argument.nargs < 0 or left < argument.nargs:
                return argument
            left -= argument.nargs
        return None

    def _values(self, parameter: click.Parameter, word: str) -> list[str]:
        complete = _BY_NAME.get(parameter.name or "")
        if complete is not None:
            return complete(self, word)
        if isinstance(parameter.type, click.Choice):
            return _starting(parameter.type.choices, word)
        return []

    def sources(self) -> list[str]:
        """Return the sources on the line."""
        names = [argument.name for argument in self.arguments]
        count = len(self.given) if "sources" in names else 2 if "second" in names else 1
        return self.given[:count]

    def keys(self) -> list[str]:
        """Return the keys of the sources on the line."""
        from reinit_cli.cli.completion.candidates import keys_of
        from reinit_cli.errors import ReinitError

        found: dict[str, None] = {}
        for source in self.sources():
            with suppress(ReinitError):  # the others are there all the same
                keys = keys_of(source, self.chosen.get("weights"), self.chosen.get("root"))
                found |= dict.fromkeys(keys)
        return list(found)

    def roots(self) -> list[str]:
        """Return the places with tensors in what the sources on the line hold."""
        from reinit_cli.cli.completion.candidates import roots_of
        from reinit_cli.errors import ReinitError

        found: dict[str, None] = {}
        for source in self.sources():
            with suppress(ReinitError):
                found |= dict.fromkeys(roots_of(source))
        return list(found)


def _starting(words: Iterable[str], start: str) -> list[str]:
    return [f"{word} " for word in words if word.startswith(start)]


def _sources(word: str) -> list[str]:
    from reinit_cli.cli.completion.candidates import paths_starting

    models = _model_names(word) if word.isidentifier() or not word else []
    return [*models, *_of_timm(word), *paths_starting(word)]


def _model_names(word: str) -> list[str]:
    from reinit_cli.checkpoints.models.torchvision import model_names

    return _starting(model_names(), word)


def _of_timm(word: str) -> list[str]:
    """Return the models of timm that start with a word; after a dot, one with each of its tags.

    Before there is a letter of "timm:", paths and models that need no package come first.
    """
    from reinit_cli.checkpoints.models import timm_names
    from reinit_cli.initializers.arch import TIMM

    if not word.startswith(TIMM):
        is_started = bool(word) and TIMM.startswith(word)
        return [TIMM] if is_started and timm_names.timm_names_in_source() else []
    name, dot, _ = word.removeprefix(TIMM).partition(".")
    names = timm_names.timm_names_in_source()
    if dot:
        names = [f"{name}.{tag}" for tag in timm_names.timm_tags_in_source(name)]
    return _starting((f"{TIMM}{each}" for each in names), word)


def _paths(values: _Values, word: str) -> list[str]:
    del values
    from reinit_cli.cli.completion.candidates import paths_starting

    return paths_starting(word)


def _rules(values: _Values, word: str) -> list[str]:
    from reinit_cli.cli.completion.candidates import rules_starting

    # After the "=" no key is needed.
    return rules_starting([] if "=" in word else values.keys(), word)


def _resizes(values: _Values, word: str) -> list[str]:
    from reinit_cli.cli.completion.candidates import inits_starting, rules_starting

    pattern, equals, rest = word.partition("=")
    rows, colon, init = rest.partition(":")
    if colon:
        return [f"{pattern}={rows}:{each}" for each in inits_starting(init)]
    return [] if equals else rules_starting(values.keys(), word)


def _renames(values: _Values, word: str) -> list[str]:
    from reinit_cli.cli.completion.candidates import rules_starting

    # What keys become is the user's own.
    return [] if "=" in word else rules_starting(values.keys(), word)


def _keys(values: _Values, word: str) -> list[str]:
    from reinit_cli.cli.completion.candidates import keys_starting

    return keys_starting(values.keys(), word)


def _inits(values: _Values, word: str) -> list[str]:
    del values
    from reinit_cli.cli.completion.candidates import inits_starting

    return inits_starting(word)


def _models(values: _Values, word: str) -> list[str]:
    del values
    return [*_model_names(word), *_of_timm(word)]


def _archs(values: _Values, word: str) -> list[str]:
    from reinit_cli.initializers.arch import TIMM, TRANSFORMERS

    if not word.isidentifier() and word:
        return [*_of_timm(word), *_paths(values, word)]
    found = [TIMM] if TIMM.startswith(word) else []
    return [*_model_names(word), *_starting([TRANSFORMERS], word), *found]


def _dtypes(values: _Values, word: str) -> list[str]:
    from reinit_cli.cli.completion.candidates import rules_starting
    from reinit_cli.tensors.dtype import FLOATS

    pattern, equals, name = word.rpartition("=")
    found = _starting([dtype.name for dtype in FLOATS], name)
    if equals:
        return [f"{pattern}={each}" for each in found]
    has_keys = any(each.name == "sources" for each in values.arguments)
    return found if found or not has_keys else rules_starting(values.keys(), word)


def _weights(values: _Values, word: str) -> list[str]:
    from reinit_cli.checkpoints.find import weights_in_source
    from reinit_cli.checkpoints.models.model import NO_WEIGHTS

    members = [name for source in values.sources() for name in weights_in_source(source)]
    return [
        *_starting(dict.fromkeys([*members, "DEFAULT", NO_WEIGHTS]), word),
        *_paths(values, word),
    ]


def _roots(values: _Values, word: str) -> list[str]:
    return _starting(values.roots(), word)


def _of(words: Iterable[str]) -> Callable[[_Values, str], list[str]]:
    return lambda _, word: _starting(words, word)


_BY_NAME: dict[str, Callable[[_Values, str], list[str]]] = {
    **dict.fromkeys(("source", "sources", "first", "second"), lambda _, word: _sources(word)),
    **dict.fromkeys(
        (
            "output",
            "config",
            "configs",
            "files_from",
            "report",
            "record",
            "record_to",
            "allow_paths",
            "optimizer_order",
        ),
        _paths,
    ),
    "rules": _rules,
    **dict.fromkeys(("excluded", "drop", "only", "patterns", "texts"), _keys),
    "rename": _renames,
    **dict.fromkeys(("init", "name"), _inits),
    "globs": _models,
    "arch": _archs,
    "resize": _resizes,
    "dtype": _dtypes,
    "weights": _weights,
    "root": _roots,
    "stream": _of((*FAMILIES, *STREAMS)),
    "device": _of(("cpu", "cuda", "mps", "auto")),
    "by": _of(("module",)),
}
"""How the values of parameters are completed, by the parameter's name."""
