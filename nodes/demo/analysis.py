"""What the demo's tasks do: read one Python file and measure it. Workers get this code by the mesh, not by import."""

from __future__ import annotations

import ast
import tokenize
from typing import TypedDict

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.BoolOp),
    *(ast.comprehension, ast.Assert, ast.match_case),
)


class LongFunction(TypedDict):
    name: str
    path: str
    lines: int
    complexity: int


class FileReport(TypedDict):
    path: str
    lines: int
    functions: int
    classes: int
    imports: list[str]
    complexity: int
    longest: LongFunction | None
    unreadable: str | None


def analyse(path: str) -> FileReport:
    """Count what is in a file. A file that is no valid Python says why in ``unreadable``."""
    report = FileReport(
        path=path, lines=0, functions=0, classes=0, imports=[], complexity=0, longest=None, unreadable=None
    )
    try:
        with tokenize.open(path) as file:
            text = file.read()
        tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        report["unreadable"] = f"{type(error).__name__}: {error}"
        return report
    report["lines"] = text.count("\n")
    imports: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            report["functions"] += 1
            complexity = 1 + sum(isinstance(inner, BRANCHES) for inner in ast.walk(node))
            report["complexity"] += complexity
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if report["longest"] is None or lines > report["longest"]["lines"]:
                report["longest"] = LongFunction(name=node.name, path=path, lines=lines, complexity=complexity)
        elif isinstance(node, ast.ClassDef):
            report["classes"] += 1
        elif isinstance(node, ast.Import):
            imports.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.add(node.module.partition(".")[0])
    report["imports"] = sorted(imports)
    return report
