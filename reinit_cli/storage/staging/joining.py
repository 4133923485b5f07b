"""Find the staging of rank 0, and make sure that it is that of this run."""

from __future__ import annotations

from reinit_cli.storage.staging.pulse import Pulse
from reinit_cli.storage.staging.refusal import Refusal
from reinit_cli.storage.staging.staging import PLAN, Staging, failure, wait
from reinit_cli.storage.staging.texts import Form
from reinit_cli.storage.staging.watch import silent
from reinit_cli.text import shortened


def join(staging: Staging) -> Form:
    """Wait for the staging that rank 0 makes, and return what that planned.

    A killed run may have left one of the same name. So it counts only once the sign of rank 0
    in it changes.

    Raises:
        OutputError: it does not come, or says why it fails.
    """
    made = ""
    pulse = Pulse(staging, 0)

    def is_alive() -> bool:
        nonlocal made, pulse
        mark = staging.mark() or {}
        if mark.get("made", "") != made:
            made, pulse = mark.get("made", ""), Pulse(staging, 0)
        pulse.feel()
        return bool(made) and pulse.changes > 0

    since = Pulse(staging, 0)  # which is never felt: it counts from here on

    refusal = Refusal(staging)

    def check() -> None:
        refusal.check()
        if since.silence > staging.ranks.timeout:
            raise silent(staging, 0, has_come=False)

    wait(is_alive, check)
    plan = (staging.mark() or {}).get("plan")
    return plan if isinstance(plan, dict) else {}


def compare(staging: Staging, mine: Form, of_first: Form) -> None:
    """Refuse to write by another plan than that of rank 0.

    Raises:
        OutputError: they differ.
    """
    for name in dict.fromkeys((*of_first, *mine)):
        one, other = mine.get(name), of_first.get(name)
        if one != other:
            texts = isinstance(one, str) and isinstance(other, str)
            how = f"its {name} is {shortened(one or '')}, not {shortened(other or '')}"
            raise failure(
                staging.path,
                f"rank {staging.ranks.rank} has another plan than rank 0: "
                + (how if texts else f"its {name} differ"),
                PLAN,
            )
