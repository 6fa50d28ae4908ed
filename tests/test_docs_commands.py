"""Every command that a page or a script names can be given as it stands, and every file that a page names is there.

Arguments are parsed by the script's own command line, in this process; the work behind it is not begun.
"""

import argparse
import ast
import functools
import importlib
import itertools
import re
import shlex
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tyro

from experiments import common
from pp_jax import evaluation, models, training
from pp_jax.evaluation import named

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "experiments/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
SCRIPTS = [*sorted((ROOT / "experiments").glob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))]
COMMAND = re.compile(r"(python -m (experiments|pp_jax)\b|python (experiments|benchmarks)/|make [a-z])")
OLD = re.compile(r"\b(?:experiments/|thieves/|owners/|cells/)\w+\.py")
# What a page says that still shows a command of the scripts that are gone.
OLD_SCRIPT, OLD_COMMIT = "script of version 0.1", "commit 1dd5505"
FILE = re.compile(r"\b(?:experiments|benchmarks|tests|pp_jax|docs)/[\w/]+\.(?:py|md|json)\b")
TARGETS = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.M)


class Parsed(Exception):
    """Ends a script behind its command line."""


def in_blocks(text):
    """The lines of fenced and indented code blocks, those that end in a backslash with the next."""
    fenced, indented, before, kept = False, False, "", []
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        else:
            indented = line.startswith("    ") and (indented or not before.strip())
            if fenced or indented:
                kept.append(line.strip())
        before = line
    return "\n".join(kept).replace("\\\n", " ").splitlines()


def in_spans(text):
    """What stands in backticks outside of fences; and the scripts in a table's column `python -m experiments.…`."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    for span in re.findall(r"`([^`\n]+)`", text):
        if "…" not in span and "|" not in span:
            yield span
    for table in re.findall(r"^\| `python -m experiments\.…` .*\n\|[-|: ]+\n((?:\|.*\n)+)", text, re.M):
        for row in table.splitlines():
            yield from (f"python -m experiments.{name}" for name in re.findall(r"`(\w+)`", row.split("|")[1]))


def commands():
    """Page and command, of all pages and of the heads of all scripts."""
    for page in PAGES:
        text = page.read_text("utf-8")
        yield from ((page, each) for each in itertools.chain(in_blocks(text), in_spans(text)))
    for script in SCRIPTS:
        head = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
        yield from ((script, each) for each in in_blocks(head))


def without_comment(command):
    """A command as it is typed, with single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"\s#.*", "", command)).strip()


COMMANDS = sorted(
    {(str(page.relative_to(ROOT)), without_comment(each)) for page, each in commands() if COMMAND.match(each)}
)


def parse(words, monkeypatch):
    """The configuration that a command comes to.

    Raises:
        SystemExit: as the command would, where it refuses its arguments.
    """
    cli, parse_args = tyro.cli, argparse.ArgumentParser.parse_args

    def stop(parser):
        def stopping(*args, **options):
            raise Parsed(parser(*args, **options))

        return stopping

    if words[1] != "-m":
        return parse_benchmark(ROOT / words[1], words[2:], monkeypatch)
    module, arguments = words[2], words[3:]
    if module == "pp_jax.service":
        from pp_jax.service.__main__ import EXAMPLE

        if arguments[0] == "example":
            return None
        arguments = [str(EXAMPLE) if word == "service.toml" else word for word in arguments]
    script = importlib.import_module(module if module.startswith("experiments") else f"{module}.__main__")
    monkeypatch.setattr(tyro, "cli", stop(cli))
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop(parse_args))
    monkeypatch.setattr(sys, "argv", [script.__file__, *arguments])
    with pytest.raises(Parsed) as parsed:
        script.main()
    return parsed.value.args[0]


def parse_benchmark(path, arguments, monkeypatch):
    """As `parse`, for a script that is no module of a package and whose options, if any, are its `Config`."""
    source = path.read_text("utf-8")
    assert 'if __name__ == "__main__":' in source, f"{path} is no command"
    if "class Config" in source:
        monkeypatch.syspath_prepend(str(path.parent))
        return tyro.cli(importlib.import_module(path.stem).Config, args=arguments)
    assert not arguments or "sys.argv" in source, f"{path} takes no arguments"
    return None


@functools.cache
def rehearse(text):
    """Make a defense for a victim of random images, as a script does before its victim is trained."""
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 1)).astype(np.uint8)
    network = models.mlp(10, hidden=(8,))
    params = network.init(jax.random.key(0), images.shape[1:])
    victim = evaluation.Victim(network, params, images, np.arange(40) % 10, training.Recipe(1))
    evaluation.rehearse([named.defense(text)], victim, network, 10, images.shape[1:], outliers=images)


def check_values(config):
    """Defenses and attackers of ours by name; those of the reader are not there."""
    given = {name: getattr(config, name, ()) for name in ("defense", "attackers", "attacker")}
    every = {name: [texts] if isinstance(texts, str) else texts for name, texts in given.items()}
    theirs = ("mine.py:", "MyDefense")
    ours = {name: [text for text in texts if not text.startswith(theirs)] for name, texts in every.items()}
    for text in ours["defense"]:
        rehearse(text)
    attackers = common.attacker_set(ours["attackers"] or ours["attacker"] or ("quick",))
    amount = {name: getattr(config, name, None) for name in ("equal", "at")}
    evaluation.check(common.parsed(ours["defense"]), attackers, getattr(config, "seeds", (0,)), **amount)


@pytest.mark.parametrize(("place", "command"), COMMANDS, ids=[": ".join(each) for each in COMMANDS])
def test_a_command_that_is_named_can_be_given(place, command, monkeypatch, capsys):
    words = shlex.split(command)
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= {*TARGETS}
    elif OLD.match(words[1]):
        text = (ROOT / place).read_text("utf-8")
        assert place.startswith("docs/"), f"{place} names a script that is gone: {command}"
        assert OLD_SCRIPT in text, f"{place} does not say that this is an old script's: {command}"
        assert OLD_COMMIT in text, f"{place} does not say where the old script is: {command}"
    else:
        try:
            config = parse(words, monkeypatch)
        except SystemExit:
            pytest.fail(f"{place}: {command}\n{capsys.readouterr()}")
        check_values(config)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_file_that_is_named_is_there(page):
    text = page.read_text("utf-8")
    gone = {path for path in FILE.findall(text) if not (ROOT / path).exists() and "my_defense" not in path}
    if OLD_COMMIT in text:
        gone = {path for path in gone if not OLD.match(path) and not path.startswith("experiments/")}
    assert not gone


def test_the_commands_are_found():
    found = {command for _, command in COMMANDS}
    assert {
        "make demo",
        "python benchmarks/run.py",
        "python -m pp_jax.data list",
        "python -m experiments.steal",
    } <= found
    assert any("--victim.dataset fashion_mnist" in command and "--no-top-1" in command for command in found)
    assert len(found) > 40


@pytest.mark.parametrize(
    "command", ["python -m experiments.steal --defence MAD", "python -m pp_jax.data prepair mnist"]
)
def test_a_command_that_cannot_be_given_is_refused(command, monkeypatch):
    with pytest.raises(SystemExit):
        parse(shlex.split(command), monkeypatch)
