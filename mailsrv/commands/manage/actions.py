"""``mailsrv queue retry`` and its kin: one change of many messages, asked for before it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailsrv.commands.manage.progress import Progress
from mailsrv.commands.spools import Workers

AT_ONCE = 500  # messages of one request


@dataclass(frozen=True, slots=True)
class Action:
    """What is done: the request, its words, and whether a mistake could not be undone."""

    request: str
    doing: str
    done: str
    already: str = ""
    final: bool = False


ACTIONS = {
    "retry": Action("run", "retry", "to be attempted now"),
    "freeze": Action("freeze", "freeze", "frozen", "frozen already"),
    "thaw": Action("thaw", "thaw", "thawed", "not frozen"),
    "bounce": Action("give_up", "bounce", "bounced", final=True),
    "remove": Action("remove", "remove", "removed", final=True),
}
GONE = "no longer in the queue"


def carry_out(
    action: Action,
    workers: Workers,
    ids: Sequence[str],
    progress: Progress,
    say: Callable[[str], None],
    *,
    frozen: bool,
) -> bool:
    """Do it to all messages, tell what became of them, and whether it was done to each.

    ``frozen`` is for ``retry``: frozen messages are thawed.
    """
    results: Counter[str] = Counter()
    problems: list[str] = []
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        if action.request == "run":
            options = {"force": True, "frozen": frozen, "wait": False}
            count = workers.total("count", "run", messages=list(some), **options)
            results.update({action.done: count, "left alone": len(some) - count})
        else:
            for result in workers.change(action.request, some):
                if isinstance(result, str):
                    problems.append(result)
                else:
                    word = action.done if result else action.already if result is False else GONE
                    results[word] += 1
        progress.add(len(some))
    progress.end()
    for problem in problems[:20]:
        say(problem)
    if problems:
        results["could not be changed"] = len(problems)
    told = [f"{count} {word}" for word, count in results.items() if count]
    say(", ".join(told) or f"0 {action.done}")
    return results[action.done] == len(ids)
