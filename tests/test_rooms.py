"""Who may import what, who reads the environment, and how large things may be: read from the source, not from habit."""

import ast
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("fanreel", "tasks", "flows", "deployments")
MODULES = {path.relative_to(ROOT).as_posix(): path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in MODULES.items()}
TREES = {name: ast.parse(text) for name, text in TEXTS.items()}
PLAN = [name for name in MODULES if name.startswith(("fanreel/plan/", "fanreel/dispatch/"))]
ROOMS = {
    path.parent.name: ast.get_docstring(ast.parse(path.read_text())) for path in ROOT.glob("fanreel/*/__init__.py")
}
TEST_MODULES = sorted((ROOT / "tests").rglob("*.py"))

LONGEST_MODULE_LINES = 350
MOST_FILES_A_ROOM = 12
LONGEST_FUNCTION_LINES = 60


def imported(tree):
    """Return what a module imports, as dotted names; `from a import b` is `a.b`, and `import_module("a")` is `a`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return names


def who_imports(*packages):
    """Return the modules that import one of `packages` or anything below it."""
    return {
        name
        for name, tree in TREES.items()
        if any(f"{found}.".startswith(f"{package}.") for found in imported(tree) for package in packages)
    }


def who_names(*dotted):
    """Return the modules where one of these names stands, as `os.environ` or after `from os import environ`."""
    return {
        name
        for name, tree in TREES.items()
        if imported(tree) & set(dotted)
        or any(isinstance(node, ast.Attribute) and ast.unparse(node) in dotted for node in ast.walk(tree))
    }


def test_there_is_something_to_look_at():
    assert len(MODULES) > 30
    assert len(PLAN) > 7
    assert {name.split("/")[0] for name in MODULES} == set(PARTS)


def test_the_environment_is_read_in_one_module():
    names = ("environ", "environb", "getenv", "getenvb", "putenv", "unsetenv")
    # These hand an environment on as a whole, and look at nothing in it.
    handed_on = {f"deployments/{name}.py" for name in ("start_run", "engine_server", "local_processes")}
    assert who_names(*(f"os.{name}" for name in names)) == {"fanreel/settings.py"} | handed_on


def public_names(room):
    """Return what a room's front offers: the names by the module that has them."""
    lines = (ROOMS[room] or "").partition("Public:")[2].replace(",\n        ", ", ").splitlines()
    pairs = [line.strip().split(": ") for line in lines if line.strip()]
    return {module: names.split(", ") for module, names in pairs}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_s_front_says_what_it_is_for_and_offers_what_exists(room):
    purpose, _, rest = (ROOMS[room] or "").partition("\n\n")
    assert purpose.endswith(".")
    assert rest.startswith("Uses ")
    for module, names in public_names(room).items():
        tree = TREES[f"fanreel/{room}/{module}.py"]
        lists = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        assert set(names) <= set(ast.literal_eval(lists[0])), f"fanreel/{room}/{module}.py does not have all of {names}"


def test_other_rooms_take_from_a_room_what_its_front_offers():
    taken = set()
    for name, tree in TREES.items():
        parts = name.split("/")
        here = parts[1] if parts[0] == "fanreel" else ""
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fanreel."):
                _, room, *module = node.module.split(".")
                if room in ROOMS and room != here:
                    modules = module or [alias.name for alias in node.names]
                    names = [alias.name for alias in node.names] if module else []
                    offered = public_names(room)
                    taken |= {
                        f"{name}: {room}.{modules[0]}.{each}"
                        for each in names
                        if each not in offered.get(modules[0], ())
                    }
    assert taken == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_flat_and_not_crowded(room):
    files = [path for path in (ROOT / "fanreel" / room).iterdir() if path.name not in ("__init__.py", "__pycache__")]
    assert len(files) <= MOST_FILES_A_ROOM
    assert not [path for path in files if path.is_dir()]


@pytest.mark.parametrize("path", TEST_MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_test_imports_another_test_module(path):
    modules = {name.split(".")[-2] if "." in name else name for name in imported(ast.parse(path.read_text()))}
    assert not [name for name in modules if name.startswith("test_") or name == "conftest"]


def test_tests_lie_in_the_folder_of_their_room():
    folders = {path.parent.name for path in (ROOT / "tests").rglob("test_*.py")} - {"tests"}
    assert folders <= set(ROOMS) | {"films", "edge", "support", "benchmarks", "examples"}


@pytest.mark.parametrize(
    "package",
    [
        *("os", "io", "time", "datetime", "random", "secrets", "uuid", "subprocess", "socket", "shutil", "tempfile"),
        *(
            "glob",
            "threading",
            "multiprocessing",
            "concurrent",
            "asyncio",
            "importlib",
            "logging",
            "locale",
            "platform",
        ),
    ],
)
def test_a_plan_knows_no_file_process_clock_or_chance(package):
    assert not who_imports(package) & set(PLAN)


@pytest.mark.parametrize("name", PLAN)
def test_a_plan_s_paths_are_only_names(name):
    assert {found for found in imported(TREES[name]) if found.startswith("pathlib")} <= {"pathlib.PurePath"}


@pytest.mark.parametrize("name", PLAN)
def test_a_plan_opens_and_prints_nothing(name):
    called = {
        node.func.id for node in ast.walk(TREES[name]) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "input", "exec", "eval", "id", "hash", "__import__"}


def test_the_camera_uses_no_function_that_differs_between_machines():
    assert not who_imports("math", "cmath", "numpy") & set(PLAN)
    assert not [node for node in ast.walk(TREES["fanreel/plan/camera.py"]) if isinstance(node, ast.Pow)]


def test_a_plan_is_loaded_without_codecs_or_orchestrator():
    heavy = "{'av', 'cv2', 'prefect', 'numba', 'numpy', 'PIL', 'pi_heif', 'boto3', 'fanreel.draw', 'fanreel.settings'}"
    program = f"import sys, fanreel.plan.film, fanreel.plan.shards; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_engine_is_loaded_without_the_orchestrator():
    program = "import sys, fanreel.render.here, fanreel.cli.command; print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


def definitions(tree):
    """Yield the functions and public classes of a module and of these classes; what a function holds is its own."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node
            yield from definitions(node)


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_is_described(name):
    assert ast.get_docstring(TREES[name]), "the module has no docstring"
    public = [node for node in definitions(TREES[name]) if not node.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_over_350_lines(name):
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE_LINES


@pytest.mark.parametrize("name", MODULES)
def test_no_function_is_over_60_lines(name):
    functions = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert {key: lines for key, lines in lengths.items() if lines > LONGEST_FUNCTION_LINES} == {}


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_exports_exists_and_is_public(name):
    lists = [
        ast.literal_eval(node.value)
        for node in TREES[name].body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    # What a module loads when it is first asked for, it imports for type checkers only.
    later = [node.body for node in TREES[name].body if isinstance(node, ast.If) and "__getattr__" in TEXTS[name]]
    defined = {node.name for node in TREES[name].body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    for node in [*TREES[name].body, *chain.from_iterable(later)]:
        if isinstance(node, ast.Assign):
            defined |= {
                inner.id for target in node.targets for inner in ast.walk(target) if isinstance(inner, ast.Name)
            }
        elif isinstance(node, ast.AnnAssign):
            defined.add(ast.unparse(node.target))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {alias.asname or alias.name for alias in node.names}
    exported = {name for found in lists for name in found}
    assert exported <= defined
    assert not [name for name in exported if name.startswith("_")]
