"""Who may import whom, as docs and DESIGN draw it; read from the source, which is not run."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lrpilot

ROOT = Path(lrpilot.__file__).parent
TESTS = Path(__file__).parent
FILES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}
PACKAGES = [name for name in FILES if name.endswith("__init__.py")]

# A part of the library imports itself and lower rows only.
ROWS = [
    {"schedules", "testing"},
    {
        "nmf",
        "tasks",
        "optimizers",
        "torch",
        "transformers",
        "accelerate",
        "lightning",
        "keras",
        "optax",
    },
    {"learning", "bench"},
    {"cli", "__main__"},
]
ROW = {part: row for row, parts in enumerate(ROWS) for part in parts}
SIDEWAYS = {("learning", "bench"), ("tasks", "nmf"), ("nmf", "torch"), ("__main__", "cli")}

FRAMEWORKS = {
    *("torch", "transformers", "accelerate", "lightning", "pytorch_lightning", "keras"),
    *("tensorflow", "jax", "flax", "optax"),
}
TORCH_PARTS = {"torch", "nmf", "tasks", "optimizers", "learning", "bench"}
# File to the modules that it may import inside a function.
LOCAL_IMPORTS = {
    "__main__.py": {"lrpilot.cli"},  # to say what is missing where typer is not installed
}

UNNAMED = {"utils", "common", "base", "helpers", "misc"}

every_file = pytest.mark.parametrize("name", FILES)


def part_of(name: str) -> str:
    """First name below ``lrpilot`` of a file or module; "" for ``lrpilot`` itself."""
    first = name.split("/")[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


def parsed(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def imports_of(name: str) -> set[str]:
    return set(imported_modules(parsed(name)))


def test_every_part_has_a_row():
    assert {part_of(name) for name in FILES} <= {"", *ROW}


@every_file
def test_a_part_imports_itself_and_lower_rows_only(name):
    ours = part_of(name)
    for module in imports_of(name):
        package, _, inside = module.partition(".")
        if package != "lrpilot":
            continue
        theirs = inside.split(".")[0]
        assert theirs, f"{name} imports lrpilot as a whole; name the module"
        if ours == "":
            assert theirs == "schedules", f"lrpilot/__init__.py imports {module}"
        else:
            lower = ROW[theirs] < ROW[ours]
            assert theirs == ours or lower or (ours, theirs) in SIDEWAYS, f"{name} imports {module}"


@every_file
def test_a_framework_is_imported_only_in_the_file_named_after_it(name):
    part = part_of(name)
    allowed = {part} | ({"torch"} if part in TORCH_PARTS else set())
    frameworks = {module.split(".")[0] for module in imports_of(name)} & FRAMEWORKS
    assert frameworks <= allowed


@pytest.mark.parametrize("name", [name for name in FILES if part_of(name) in ("", "schedules")])
def test_the_schedules_need_the_standard_library_and_numpy_at_most(name):
    others = {module.split(".")[0] for module in imports_of(name)} - sys.stdlib_module_names
    assert others <= ({"lrpilot", "numpy"} if part_of(name) else {"lrpilot"})


@every_file
def test_imports_stand_at_the_top_of_the_file(name):
    functions = [
        node
        for node in ast.walk(parsed(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    local = {module for function in functions for module in imported_modules(function)}
    assert local <= LOCAL_IMPORTS.get(name, set())


def test_no_file_is_longer_than_400_lines():
    for path in [*FILES.values(), *TESTS.rglob("*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


def test_every_file_has_a_name_that_says_something():
    for path in [*ROOT.rglob("*"), *TESTS.rglob("*")]:
        assert path.stem not in UNNAMED, path


def test_importing_lrpilot_loads_no_framework_and_no_numpy():
    code = "import sys, lrpilot; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {module.split(".")[0] for module in run.stdout.split()}
    assert "lrpilot" in loaded
    assert not loaded & (FRAMEWORKS | {"numpy", "scipy", "sklearn"})


def ruff_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as ruff's RUF022 sorts."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_says_in_order_what_is_public_and_has_it(name):
    module = importlib.import_module(
        ".".join(["lrpilot", *name.removesuffix("__init__.py").split("/")]).rstrip(".")
    )
    assert module.__all__ == sorted(module.__all__, key=ruff_order)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert hasattr(module, public)


def test_of_the_factorisation_the_estimator_alone_knows_schedules():
    knowing = {
        name
        for name in FILES
        if name.startswith("nmf/")
        and any(module.startswith("lrpilot.schedules") for module in imports_of(name))
    }
    assert knowing == {"nmf/estimator.py"}


def test_the_factorisation_needs_no_scikit_learn_until_its_estimator_is_asked_for():
    code = "import sys, lrpilot.nmf; print('sklearn' in sys.modules, lrpilot.nmf.StochasticNMF)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split()[0] == "False"
    assert "lrpilot.nmf.estimator.StochasticNMF" in run.stdout
