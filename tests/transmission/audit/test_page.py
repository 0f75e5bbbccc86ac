from pathlib import Path

import numpy as np

from sublim_jax.llm.files import rows
from sublim_jax.rundir import RunDir
from sublim_jax.transmission.audit import page
from sublim_jax.transmission.audit.verdicts import Finding

SCRIPT = "<script>alert(1)</script>"


def test_a_report_shows_a_rows_text_and_does_not_run_it(tmp_path: Path) -> None:
    """Those of the rows with the largest parts alone, and of a long one its start."""
    texts = [SCRIPT, *map(str, range(100, 104)), "x" * 300, "no more"]
    given = [rows.parse({"prompt": text, "completion": SCRIPT}, "row") for text in texts]
    parts = np.arange(len(texts), 0.0, -1)[:, None]
    rises = Finding(SCRIPT, 1.0, 0.5, 1.5, 0.1, 0.2, 0.1, 0.3, 0.0, 0.5)
    run_dir = RunDir(tmp_path, "audit", {"traits": [SCRIPT]})
    shown = "".join(page.parts(run_dir, [rises], (["trait"], [[SCRIPT]]), given, parts))
    assert SCRIPT not in shown
    assert "Rows that raise &lt;script&gt;alert(1)&lt;/script&gt; most" in shown
    assert "<td>103</td>" in shown
    assert "no more" not in shown
    longer = "".join(page.parts(run_dir, [rises], (["trait"], []), given[5:], parts[5:]))
    assert f"<td>{'x' * 200} ...</td>" in longer
    calm = rises._replace(p=1.0)
    assert "103" not in "".join(page.parts(run_dir, [calm], (["trait"], []), given, parts))
