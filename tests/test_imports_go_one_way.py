"""Imports go one way: from a folder to those before it in the flow of data, and never in a circle."""

import ast

import pytest

FLOORS = [
    ["vdm", "vdm.types", "vdm.errors", "vdm.network_options"],
    ["vdm.seeds"],
    ["vdm.runtime"],
    ["vdm.data"],
    ["vdm.schedules"],
    ["vdm.distributions"],
    ["vdm.diffusion"],
    ["vdm.networks"],
    ["vdm.models"],
    ["vdm.training"],
    ["vdm.samplers", "vdm.evaluation"],
    ["vdm.codecs", "vdm.plots"],
    ["vdm.runs"],
    ["configs"],
    ["experiments.cli"],
    ["experiments.reports"],
    ["experiments.sessions", "experiments.sweeps"],
    ["experiments.benchmarks"],
    ["experiments.studies"],
    ["experiments"],
]
"""What imports only from what stands above it; rooms in one line import nothing of each other."""

FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

EXCEPTIONS: dict[tuple[str, str], str] = {}
"""{(importing module, imported module): why, until it is mended}; only ever gets shorter."""

FOREIGN = {"absl", "ml_collections", "configs", "experiments"}
"""What the library does without: it is installed without launchers and knows no flags."""

LOOSE_FILES = 10


@pytest.fixture(scope="module")
def imports(repository):
    """{module: what it imports, anywhere in its file}; packages of other people by their name."""
    paths = [
        p for top in ("vdm", "configs", "experiments") for p in (repository / top).rglob("*.py")
    ]
    modules = {_name(path.relative_to(repository)): path for path in paths}
    return {
        name: set(_imported(ast.parse(path.read_text()), modules)) for name, path in modules.items()
    }


def _name(path):
    words = path.with_suffix("").parts
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


def _imported(tree, modules):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: write imports from the root on"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in modules else node.module


def _room(module):
    """The innermost room that holds `module`: its own name first, then its folders'."""
    words = module.split(".")
    for size in range(len(words), 0, -1):
        room = ".".join(words[:size])
        # The root's own __init__ is no room for what nobody gave a floor.
        if room in FLOOR_OF and (size == len(words) or room != "vdm"):
            return room
    raise AssertionError(f"{module}: in no room; give its folder a line in FLOORS")


def _climbs(imports):
    for module, others in imports.items():
        for other in others & imports.keys():
            here, there = _room(module), _room(other)
            if here != there and FLOOR_OF[there] >= FLOOR_OF[here]:
                yield module, other


def test_a_folder_imports_only_from_those_above_it(imports):
    climbs = set(_climbs(imports))
    assert not climbs - EXCEPTIONS.keys()
    assert not EXCEPTIONS.keys() - climbs, "mended: take it off the list"


def test_no_circles(imports):
    done, open_now = set(), []

    def visit(module):
        if module in done:
            return
        assert module not in open_now, " -> ".join([*open_now[open_now.index(module) :], module])
        open_now.append(module)
        for other in sorted(imports[module] & imports.keys()):
            visit(other)
        done.add(open_now.pop())

    for module in sorted(imports):
        visit(module)


def test_the_library_knows_neither_launchers_nor_flags(imports):
    found = {
        (module, other)
        for module, others in imports.items()
        for other in others
        if module.split(".")[0] == "vdm" and other.split(".")[0] in FOREIGN
    }
    assert not found


def test_few_files_stand_loose(repository):
    loose = sorted(path.name for path in (repository / "vdm").glob("*.py"))
    assert len(loose) <= LOOSE_FILES, loose


def test_only_commands_stand_in_experiments(repository):
    for path in (repository / "experiments").glob("*.py"):
        text = path.read_text()
        assert path.name == "__init__.py" or '__name__ == "__main__"' in text, path.name
