"""docs/COMMANDS.md tells of every verb and every option that --help shows."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from nodes.cli.main import INSTEAD, VERBS, mesh_command

PAGE = (Path(__file__).parent.parent.parent / "docs" / "COMMANDS.md").read_text()
SECTIONS = dict(re.findall(r"^### mesh (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))
SHARED = {"-A", "--app", "--mesh", "--workdir", "-q", "--quiet", "-C", "--no-color", "-h", "--help"}
OWN_PAGE = {"bench"}


def options(command: click.Command) -> set[str]:
    """What --help shows, of subcommands too."""
    found: set[str] = set()
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            found |= {*parameter.opts, *parameter.secondary_opts}
    if isinstance(command, click.Group):
        for sub in command.commands.values():
            found |= options(sub)
    return found - SHARED


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_its_section_with_every_option(verb: str) -> None:
    assert verb in SECTIONS
    if verb in OWN_PAGE:
        return
    command = mesh_command.get_command(click.Context(mesh_command), verb)
    assert command is not None
    text = SECTIONS[verb] + (SECTIONS["worker"] + SECTIONS["router"] if verb == "up" else "")
    assert [option for option in sorted(options(command)) if f"`{option}`" not in text] == []


def test_no_section_is_about_a_verb_that_is_gone() -> None:
    assert SECTIONS.keys() == VERBS.keys()


def test_the_options_of_all_verbs_are_in_one_place() -> None:
    for_all = PAGE.split("## For all verbs")[1].split("## Exit codes")[0]
    assert [option for option in sorted(SHARED) if f"`{option}`" not in for_all] == []


def test_the_page_does_not_promise_what_the_command_calls_missing() -> None:
    assert not [verb for verb in INSTEAD if f"mesh {verb}" in PAGE]
