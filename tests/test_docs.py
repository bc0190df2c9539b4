"""The site: every Python block runs, every page made from the code is complete."""

import importlib.util
import re
import textwrap
from pathlib import Path

import jax
import pytest

import flaxmobile
from convert.published.catalogue import find_entry
from flaxmobile.registry import get_spec, model_options

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", re.M | re.S)
PAGES = sorted(DOCS.rglob("*.md"))
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load_pretrained(name, **options):
    """Stand in for a download: any network of the catalogue is a small one."""
    find_entry(name)
    make = flaxmobile.create_backbone if "out_strides" in options else flaxmobile.create_model
    model = make("mobilenet_v2", alpha=0.35, **options)
    return model, flaxmobile.init(model, jax.random.key(0))


# Keras 3.12 reads its variables in a way that NumPy 2.4 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    "path", [README, *PAGES], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_code_of_a_page_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(flaxmobile, "load_pretrained", _load_pretrained)
    for name in ("run_in_calling_thread", "keep_freed_memory"):  # settings of the whole process
        monkeypatch.setattr(f"flaxmobile.allocator.{name}", lambda: None)
    blocks = [textwrap.dedent(match[2]) for match in BLOCK.finditer(path.read_text())]
    assert len(blocks) == path.read_text().count("```python")
    with jax.numpy_rank_promotion("allow"):  # JAX's default, which the user of a page has
        exec(compile("\n".join(blocks), path.name, "exec"), {"__name__": path.stem})


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "blazeface"])
def test_page_of_a_network_has_paper_layers_options_and_choices(name, hooks):
    page, spec = hooks.network_page(name), get_spec(name)
    assert page.startswith(f"# {name}\n\n{spec.paper}, {spec.year}.")
    assert f"| {spec.params:,} | {spec.macs:,} |" in page
    assert all(f"| `{option}` | `" in page for option in model_options(name))
    assert "## Choices" in page


def test_reference_has_every_public_name(hooks):
    names = set(re.findall(r"^::: .*\.(\w+)$", hooks.reference_page(), re.M))
    assert names == set(flaxmobile.__all__) - {"__version__"}


def test_navigation_has_every_page_and_no_other():
    listed = set(re.findall(r"- (?:\w+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    written = {path.relative_to(DOCS).as_posix() for path in PAGES}
    assert listed == written | {"api.md"}
    assert all(
        (ROOT / link).exists() for link in re.findall(r"\]\(([^)#:]+)\)", README.read_text())
    )
    links = {
        (path.parent / link).resolve().relative_to(DOCS).as_posix()
        for path in PAGES
        for link in re.findall(r"\]\(([^)#:]+\.md)", path.read_text())
    }
    assert links <= written | {"networks/index.md"}
