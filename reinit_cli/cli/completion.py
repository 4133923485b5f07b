"""`reinit completion SHELL`: print the script by which a shell completes this command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from reinit_cli.cli.commands import COMMANDS, group
from reinit_cli.cli.options import CONTEXT

_SCRIPTS = {
    "bash": r"""_reinit() {
    local IFS=$'\n'
    compopt -o nospace 2>/dev/null
    COMPREPLY=($(command reinit completion bash --breaks "$COMP_WORDBREAKS" \
        --line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
}
complete -F _reinit reinit
""",
    "zsh": r"""#compdef reinit
_reinit() {
    local -a words_before candidates
    words_before=("${(@)words[1,CURRENT-1]}" "$PREFIX")
    candidates=("${(@f)$(command reinit completion zsh --line "${(j: :)words_before}" 2>/dev/null)}")
    [[ -n ${candidates[1]} ]] && compadd -Q -S '' -- "${candidates[@]}"
}
compdef _reinit reinit
""",
    "fish": r"""function _reinit_complete
    command reinit completion fish --line (commandline --cut-at-cursor --current-process | string collect) 2>/dev/null
end
complete --command reinit --no-files --arguments '(_reinit_complete)'
""",
}


@click.command("completion", context_settings=CONTEXT)
@click.argument("shell", type=click.Choice(list(_SCRIPTS)))
@click.option("--line", hidden=True, help="Print what the last word of this line may become.")
@click.option("--breaks", default="", hidden=True, help="The characters at which bash splits.")
def command(shell: str, line: str | None, breaks: str) -> None:
    """Print a script for SHELL that completes commands, options, initializers, and keys.

    The keys are those of the checkpoint or model that is named on the line.

    \b
    eval "$(reinit completion bash)"            # in ~/.bashrc
    eval "$(reinit completion zsh)"             # in ~/.zshrc, behind compinit
    reinit completion fish > ~/.config/fish/completions/reinit.fish
    """
    if line is None:
        click.echo(_SCRIPTS[shell], nl=False)
        return
    from reinit_cli.completing import unbroken, words_of

    words, quote = words_of(line)
    try:
        candidates = _candidates(words[1:-1], words[-1])
    except Exception:  # noqa: BLE001 (whatever goes wrong, a prompt is no place to tell it)
        return
    shown = unbroken(candidates, words[-1], breaks, quote)
    is_bash = shell == "bash"
    sys.stdout.writelines(f"{each if is_bash else each.rstrip()}\n" for each in shown)


def _candidates(before: Sequence[str], word: str) -> list[str]:
    """Return what a word may become; with a space behind what is complete.

    Args:
        before: the words between the program's name and it.
        word: what is written of it.
    """
    name = before[0] if before and before[0] in COMMANDS else None
    if not before:
        commands = [f"{each} " for each in (*COMMANDS, "--help", "--version")]
        # `run` may be left out, so a source may stand here too.
        return [*_starting(commands, word), *_sources(word)] if word else commands
    found = group.get_command(click.Context(group), name or "run")
    assert found is not None
    values = _Values(found, before[1:] if name else before)
    return values.candidates(word)


class _Values:
    """The options and arguments of a command, as far as they are written."""

    def __init__(self, found: click.Command, words: Sequence[str]) -> None:
        self.options = {
            spelled: option
            for option in found.params
            if isinstance(option, click.Option) and not option.hidden
            for spelled in (*option.opts, *option.secondary_opts)
        }
        self.arguments = [each for each in found.params if isinstance(each, click.Argument)]
        self.pending: click.Parameter | None = None
        self.given: list[str] = []
        for each in words:
            if self.pending is not None:
                self.pending = None
            elif each.startswith("-") and len(each) > 1:
                option = self.options.get(each)
                takes_value = option is not None and not option.is_flag and not option.count
                self.pending = option if takes_value else None
            else:
                self.given.append(each)

    def candidates(self, word: str) -> list[str]:
        """Return what the word behind them may become."""
        if self.pending is not None:
            return self._values(self.pending, word)
        if word.startswith("-"):
            name, equals, start = word.partition("=")
            if equals and name in self.options:
                return [f"{name}={each}" for each in self._values(self.options[name], start)]
            return _starting([f"{each} " for each in (*self.options, "--help")], word)
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
            return _starting([f"{each} " for each in parameter.type.choices], word)
        return []

    def keys(self) -> list[str]:
        """Return the keys of the source on the line."""
        from reinit_cli.completing import keys_of

        return keys_of(self.given[0]) if self.given else []


def _starting(words: Iterable[str], start: str) -> list[str]:
    return [word for word in words if word.startswith(start)]


def _sources(word: str) -> list[str]:
    from reinit_cli.completing import paths_starting
    from reinit_cli.models import model_names

    models = [f"{name} " for name in model_names()] if word.isidentifier() or not word else []
    return [*_starting(models, word), *paths_starting(word)]


def _paths(values: _Values, word: str) -> list[str]:
    del values
    from reinit_cli.completing import paths_starting

    return paths_starting(word)


def _of(words: Iterable[str]) -> Callable[[_Values, str], list[str]]:
    return lambda _, word: _starting([f"{each} " for each in words], word)


def _rules(values: _Values, word: str) -> list[str]:
    from reinit_cli.completing import rules_starting

    # Behind the "=" no key is looked at.
    return rules_starting([] if "=" in word else values.keys(), word)


def _keys(values: _Values, word: str) -> list[str]:
    from reinit_cli.completing import keys_starting

    return keys_starting(values.keys(), word)


def _inits(values: _Values, word: str) -> list[str]:
    del values
    from reinit_cli.completing import inits_starting

    return inits_starting(word)


def _models(values: _Values, word: str) -> list[str]:
    del values
    from reinit_cli.models import model_names

    return _starting(model_names(), word)


def _dtypes(values: _Values, word: str) -> list[str]:
    del values
    from reinit_cli.dtypes import FLOATS

    return _starting([f"{dtype.name} " for dtype in FLOATS], word)


def _weights(values: _Values, word: str) -> list[str]:
    return [*_starting(["none ", "DEFAULT "], word), *_paths(values, word)]


_BY_NAME: dict[str, Callable[[_Values, str], list[Any]]] = {
    **dict.fromkeys(("source", "sources", "first", "second"), lambda _, word: _sources(word)),
    **dict.fromkeys(("output", "config", "configs", "files_from", "report"), _paths),
    "rules": _rules,
    **dict.fromkeys(("excluded", "patterns", "key"), _keys),
    **dict.fromkeys(("init", "name"), _inits),
    "globs": _models,
    "dtype": _dtypes,
    "weights": _weights,
    "device": _of(("cpu", "cuda", "mps", "auto")),
    "depth": _of(("module",)),
}
"""How the values of parameters are completed, by the parameter's name."""
