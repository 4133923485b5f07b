"""`reinit keys SOURCE [PATTERN...]`: list keys."""

from __future__ import annotations

import sys

import click

from reinit_cli.cli.options import CONTEXT, PatternType, json_option, root_option, weights_option
from reinit_cli.patterns import Pattern
from reinit_cli.sources import find_source
from reinit_cli.tensors import TensorInfo, tied_groups


@click.command("keys", context_settings=CONTEXT)
@click.argument("source")
@click.argument("patterns", type=PatternType(), nargs=-1, metavar="[PATTERN]...")
@weights_option
@root_option
@click.option("-0", "--null", is_flag=True, help="End each key with a NUL instead of a newline.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    patterns: tuple[Pattern, ...],
    weights: str | None,
    root: str | None,
    *,
    null: bool,
    as_json: bool,
) -> None:
    """List the keys of SOURCE, or those that match a PATTERN; exit 1 if there are none.

    On a terminal a table with shapes and dtypes; in a pipe one key per line. Nothing but
    names and shapes is read, and nothing is downloaded.

    \b
    reinit keys alexnet
    reinit keys model.safetensors "*.bias" | wc -l
    """
    found = find_source(source, weights, root).tensors
    chosen = _chosen(found, patterns)
    aliases = {key: group[0] for key, group in tied_groups(found).items() if key != group[0]}
    if as_json:
        from reinit_cli.report.serial import key_forms

        sys.stdout.writelines(line + "\n" for line in key_forms(chosen, aliases))
    elif sys.stdout.isatty() and not null:
        from reinit_cli.report.keys import keys_sheet
        from reinit_cli.report.sheets import show

        show(keys_sheet(chosen, aliases), sys.stdout)
    else:
        end = "\0" if null else "\n"
        text = "".join(tensor.key + end for tensor in chosen)
        sys.stdout.buffer.write(text.encode(errors="surrogatepass"))
        sys.stdout.buffer.flush()
    ctx.exit(0 if chosen else 1)


def _chosen(tensors: tuple[TensorInfo, ...], patterns: tuple[Pattern, ...]) -> list[TensorInfo]:
    keys = [tensor.key for tensor in tensors]
    if not patterns:
        return list(tensors)
    positions = {at for pattern in patterns for at in pattern.select(keys)}
    return [tensors[at] for at in sorted(positions)]
