"""Print the script by which a shell completes this command."""

from __future__ import annotations

import sys

import click

from reinit_cli.cli.completion.words import candidates_for, with_next
from reinit_cli.cli.help import Command, argument
from reinit_cli.cli.options import CONTEXT

_SCRIPTS = {
    # Nothing here is expanded: candidates may hold what a user typed, such as `*`. The words
    # are joined where this is called without a line, as tests of completions do.
    "bash": r"""_reinit() {
    local line=${COMP_LINE:0:COMP_POINT} program=${1:-reinit} candidate IFS=' '
    if [[ -z $COMP_LINE ]]; then
        line="${COMP_WORDS[*]:0:COMP_CWORD+1}"
        line=${line// = /=} line=${line// : /:} line=${line/% =/=} line=${line/% :/:}
    fi
    type -P -- "$program" >/dev/null || program=reinit
    COMPREPLY=()
    while IFS= read -r candidate; do
        [[ -n $candidate ]] && COMPREPLY+=("$candidate")
    done <<< "$(command "$program" completion bash --breaks "$COMP_WORDBREAKS" \
        --line "$line" 2>/dev/null </dev/null)"
}
complete -o nospace -F _reinit reinit
""",
    "zsh": r"""#compdef reinit
_reinit() {
    local program=${(Q)words[1]}
    local -a before candidates finished
    before=("${(@)words[1,CURRENT-1]}" "$QIPREFIX$PREFIX")
    whence -p -- "$program" >/dev/null || program=reinit
    candidates=("${(@f)$(command "$program" completion zsh --line "${(j: :)before}" 2>/dev/null </dev/null)}")
    finished=("${(@)${(@M)candidates:#* }% }")
    candidates=("${(@)candidates:#(|* )}")
    (( $#finished )) && compadd -Q -- "${finished[@]}"
    (( $#candidates )) && compadd -Q -S '' -- "${candidates[@]}"
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _reinit "$@"
else
    compdef _reinit reinit
fi
""",
    "fish": r"""function _reinit_complete
    set --local program (commandline --current-process --tokenize)[1]
    command --query $program; or set program reinit
    command $program completion fish --line (commandline --cut-at-cursor --current-process | string collect) 2>/dev/null </dev/null
end
complete --command reinit --no-files --arguments '(_reinit_complete)'
""",
}


@click.command("completion", cls=Command, context_settings=CONTEXT)
@argument("shell", type=click.Choice(list(_SCRIPTS)), metavar="SHELL", help="bash, zsh or fish")
@click.option("--line", hidden=True, help="Print what the last word of this line may become.")
@click.option("--breaks", default="", hidden=True, help="The characters at which bash splits.")
def command(shell: str, line: str | None, breaks: str) -> None:
    """Print a script that completes commands, options, initializers and keys.

    The keys are those of the checkpoint or model that the line names.

    \b
    eval "$(reinit completion bash)"            # in ~/.bashrc
    eval "$(reinit completion zsh)"             # in ~/.zshrc, after compinit
    reinit completion fish > ~/.config/fish/completions/reinit.fish
    """
    if line is None:
        click.echo(_SCRIPTS[shell], nl=False)
        return
    from reinit_cli.cli.completion.line import read_line, shown

    try:
        read = read_line(line, breaks)
        candidates = candidates_for(read.before[1:], read.word)
        if read.quote and shell != "fish":
            candidates = with_next(candidates, read.before[1:])
        found = list(shown(candidates, read, shell))
    except Exception:  # noqa: BLE001 (whatever goes wrong, a prompt is no place to tell it)
        return
    sys.stdout.writelines(f"{each}\n" for each in found)
