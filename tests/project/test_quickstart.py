"""The notebook runs from the first cell to the last, in a real kernel, and shows what it says."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"

# Of the libraries that talk to the kernel.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook, run in an empty folder."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANZOO_CACHE", str(folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def outputs(notebook, end):
    """The outputs of the code cell that ends in this."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.endswith(end)]
    return cell.outputs


def kinds(output):
    return set(output.get("data", {}))


def test_it_says_nothing_on_standard_error(executed):
    streams = [
        output for cell in executed.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    ]
    assert [output.name for output in streams] == ["stdout"]


def test_pictures_and_tables_are_shown(executed):
    (generator,) = outputs(executed, "\ng")
    *_, images = outputs(executed, "columns=8)")
    (run,) = [output for cell in executed.cells if cell.source == "run" for output in cell.outputs]
    *_, result = outputs(executed, "n=300)")
    assert {"image/png", "text/plain"} <= kinds(generator)
    assert {"image/png", "text/plain"} <= kinds(images)
    assert '<img src="data:image/png;base64,' in run.data["text/html"]
    assert "<table>" in result.data["text/html"]


def test_the_progress_is_one_line_that_has_arrived(executed):
    """Updates replace it, as nbclient does what the browser does."""
    (line,) = outputs(executed, 'track=["csv"])')
    assert line.output_type == "display_data"
    assert re.fullmatch(r"━{24} 150/150  D \d.* images/s", line.data["text/plain"])
    line, picture = outputs(executed, "show(run)")
    assert line.data["text/plain"].startswith(f"{'━' * 24} 200/200")
    assert "image/png" in kinds(picture)


def test_what_is_committed_is_what_was_run(executed):
    """The same cells, executed in order, whose results are of the same kinds. A line about progress comes only where
    something takes long."""
    committed = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in committed] == list(range(1, len(committed) + 1))
    again = [cell for cell in executed.cells if cell.cell_type == "code"]
    for before, now in zip(committed, again, strict=True):
        assert before.source == now.source
        assert kinds(before.outputs[-1]) == kinds(now.outputs[-1])
    assert NOTEBOOK.stat().st_size < 500_000
