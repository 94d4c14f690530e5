"""Works as a wheel, an editable install and a bare checkout; imports go one way."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pcompiler.serve.http.page import FILES

ROOT = Path(__file__).parent.parent
# From the bottom up; a module may import from its own row and those above it in this list.
LAYERS = (
    (
        "errors",
        "ir",
        "config",
        "serving",
        "sharing",
        "toml",
        "families",
        "registry",
        "ranges",
        "table",
        "clock",
        "threads",
        "closing",
        "lazy",
        "interrupts",
        "heap",
        "alerts",
        "memory",
        "measures",
        "meter",
        "changes",
        "__init__",
    ),
    ("device", "progress", "wheel", "embedded", "codec", "kernels"),
    ("ops", "attention"),
    ("model", "template", "embed"),
    ("mixed",),
    ("frontend", "passes", "passages", "queries", "quality", "runtime"),
    ("self_study",),
    ("dynamics",),
    ("store",),
    ("remote",),
    ("nearest", "draft"),
    ("targets",),
    ("fidelity",),
    ("latency", "outcome", "address"),
    ("pipeline",),
    ("search", "group"),
    ("export",),
    ("session",),
    ("compiler",),
    ("scale",),
    ("serve",),
    ("bench",),
    ("commands",),
    ("cli", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> set[str]:
    """First parts of the pcompiler modules that a file imports anywhere; not for types only."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing_only:
            parts = node.module.split(".")
            if parts[0] == "pcompiler":
                found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
    return found - {"__version__"}


def test_imports_go_one_way() -> None:
    for path in (ROOT / "pcompiler").rglob("*.py"):
        here = path.relative_to(ROOT / "pcompiler").parts[0].removesuffix(".py")
        assert here in RANK, f"{here} has no place in LAYERS"
        for there in imports(path):
            if (here, there) == ("cli", "targets"):
                continue  # the names of the targets only, which import nothing
            assert RANK[there] <= RANK[here], f"{path.name} imports {there} from above"


def test_every_package_is_listed_by_hand() -> None:
    found = {
        str(p.parent.relative_to(ROOT)).replace(os.sep, ".")
        for p in (ROOT / "pcompiler").rglob("__init__.py")
    }
    # Sources beside the package, which no __init__.py makes one.
    found |= {f"pcompiler.kernels.{p.parent.name}" for p in (ROOT / "kernels").glob("*/*.[cp]*")}
    text = (ROOT / "pyproject.toml").read_text()
    listed = text.split("packages = [")[1].split("]")[0]
    assert {line.strip(' ",') for line in listed.splitlines() if line.strip()} == found


def test_nobody_but_device_asks_which_device_it_is() -> None:
    for path in (ROOT / "pcompiler").rglob("*.py"):
        if path.name != "device.py":
            text = path.read_text()
            for word in (
                "is_cuda",
                "device.type",
                "handle.type",
                "torch.cuda",
                "torch.mps",
                "backends",
            ):
                assert word not in text, f"{path.name} says {word}"


def test_the_kernels_folder_is_not_a_package() -> None:
    """transformers imports any top-level package named kernels: see kernels/README.md."""
    assert not (ROOT / "kernels" / "__init__.py").exists()
    code = (
        "import sys, transformers, transformers.integrations.hub_kernels\n"
        "found = getattr(sys.modules.get('kernels'), '__file__', None)\n"
        f"assert not (found or '').startswith({str(ROOT)!r}), found"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_bare_checkout_runs_without_being_installed(tmp_path: Path) -> None:
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)]\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import pcompiler; from pcompiler import Compiler; print(pcompiler.__file__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == str(ROOT / "pcompiler" / "__init__.py")


@pytest.fixture(scope="session")
def installed_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources and installed into a folder."""
    import shutil

    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("pcompiler", "kernels"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work)]
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    (wheel,) = work.glob("*.whl")
    target = work / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return target


def test_the_wheel_imports_elsewhere_and_leaks_no_other_name(
    installed_wheel: Path, tmp_path: Path
) -> None:
    assert {p.name for p in installed_wheel.iterdir() if p.suffix != ".dist-info"} <= {
        "pcompiler",
        "bin",
    }
    stand_ins = installed_wheel / "pcompiler" / "bench" / "profiles"
    assert {p.name for p in stand_ins.iterdir()} >= {"charts.js", "axes.js", "trace.html"}
    page = installed_wheel / "pcompiler" / "serve" / "http" / "page"
    assert {p.name for p in page.iterdir()} == set(FILES)
    assert (installed_wheel / "pcompiler" / "kernels" / "triton" / "prefix_attention.py").is_file()
    assert (installed_wheel / "pcompiler" / "kernels" / "cpp" / "attention.cpp").is_file()
    code = (
        "import pcompiler, pcompiler.compiler, pcompiler.cli, pcompiler.bench.__main__\n"
        "from pcompiler import targets; [targets.get(t) for t in targets.TARGETS]\n"
        "print(pcompiler.__file__)"
    )
    env = os.environ | {"PYTHONPATH": str(installed_wheel)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(installed_wheel / "pcompiler" / "__init__.py")
