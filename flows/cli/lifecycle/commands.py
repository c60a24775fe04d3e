"""`rm`, `restore` and `rename` of a noun. Each calls one method of its catalogue."""

import sys
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, facts, note, say, size, table

if TYPE_CHECKING:
    from tamis.store.lifecycle import Removable, Removal, Renamable

_SHOWN = 10  # of what is removed, or needs it


def add_removal(group: click.Group, word: str, plural: str, what: str, kept: str = "") -> None:
    """Give a group the commands `rm` and `restore`.

    Args:
        group: of a noun.
        word: the noun.
        plural: name of the catalogue in a store.
        what: a reference, for the examples.
        kept: a sentence on what stays.
    """
    _add_rm(group, word, plural, what, kept)
    _add_restore(group, word, plural, what)


def add_rename(group: click.Group, word: str, plural: str) -> None:
    """Give a group the command `rename`; arguments as of `add_removal`."""

    @common
    def rename(app: App, old: str, new: str) -> None:
        catalog: Renamable = getattr(app.open(), plural)
        answer = {"from": old, "to": new, plural: catalog.rename(old, new)}
        emit(answer, app.as_json, lambda: say(f"{old} is now called {new}: {_some(answer[plural])}"))

    rename.__doc__ = f"""Rename all versions of a {word}. Versions keep their numbers.

    References with a version ({"old@2"}) stay valid. The bare old name is refused with a hint, and cannot be reused.

    \b
    Examples:
      tamis {word} rename old new
      tamis {word} rename old new --json
    """
    made = click.argument("new")(rename)
    group.command("rename")(click.argument("old")(made))


def _add_rm(group: click.Group, word: str, plural: str, what: str, kept: str) -> None:
    @click.option("--dry-run", is_flag=True, help="Only show what would be removed and freed, and what prevents it.")
    @click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
    @common
    def rm(app: App, ref: str, dry_run: bool, yes: bool) -> None:
        catalog: Removable = getattr(app.open(), plural)
        found = catalog.removal(ref)
        if not dry_run and not found.needed_by:
            _confirm(found, yes or app.as_json)
        if not dry_run:
            found = catalog.remove(ref)
        answer = {
            "removed": list(found.removes), "dry_run": dry_run, "needed_by": list(found.needed_by),
            "files": found.files, "bytes": found.bytes, "shared_files": found.shared, "undo": found.undo,
        }  # fmt: skip
        emit(answer, app.as_json, lambda: _tell(found, dry_run))
        if found.needed_by:
            raise SystemExit(1)

    versions = "" if word == "run" else " A bare name means all of its versions."
    rm.__doc__ = f"""Remove a {word}, unless something needs it.{versions}{kept}

    What needs it is listed, and nothing is removed. Removed version numbers are never reused, and --at still shows
    what was removed. `tamis gc` frees the files after --keep days; until then `tamis {word} restore` undoes it.

    \b
    Examples:
      tamis {word} rm {what} --dry-run
      tamis {word} rm {what} --yes --json
    """
    argument = click.argument("ref", metavar="KEY" if word == "run" else "NAME[@VERSION]")
    group.command("rm")(argument(rm))


def _add_restore(group: click.Group, word: str, plural: str, what: str) -> None:
    @common
    def restore(app: App, ref: str) -> None:
        catalog: Removable = getattr(app.open(), plural)
        answer = {"restored": catalog.restore(ref)}
        emit(answer, app.as_json, lambda: say(f"Restored: {_some(answer['restored'])}"))

    restore.__doc__ = f"""Undo the removal of a {word}, until `tamis gc` has freed its files.

    Refused if the same result was computed again in the meantime.

    \b
    Examples:
      tamis {word} restore {what}
      tamis {word} restore {what} --json
    """
    argument = click.argument("ref", metavar="KEY" if word == "run" else "NAME[@VERSION]")
    group.command("restore")(argument(restore))


def _confirm(found: "Removal", sure: bool) -> None:
    """Ask on a terminal; elsewhere --yes is needed no more than by any other command."""
    if sure or not sys.stdin.isatty():
        return
    note(f"Removes {_some(found.removes)}; `tamis gc` frees {size(found.bytes)} later. Undo: {found.undo}")
    click.confirm("Remove?", abort=True, err=True)


def _tell(found: "Removal", dry_run: bool) -> None:
    done = "would be removed" if dry_run else "removed"
    pairs: dict[str, Any] = {done: _some(found.removes), "to be freed": f"{found.files} files, {size(found.bytes)}"}
    if found.shared:
        pairs["shared files"] = found.shared
    facts(pairs if found.needed_by else pairs | {"undo": found.undo})
    if found.needed_by:
        table([{"needed by": one} for one in found.needed_by[:_SHOWN]])
        more = len(found.needed_by) - _SHOWN
        say(f"Cannot be removed{f': {more} more' if more > 0 else ''}.")


def _some(refs: Any) -> str:
    listed = list(refs)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
