"""What is said of the vectors of NumPy's BLAS, on processors that are played."""

import pytest

from tests.cli_tools import run
from xprnn.backend.host import kernels
from xprnn.cli.bench import report

ZEN5 = {"SSE42", "AVX2", "FMA3", "AVX512_SKX"}
ZEN3 = {"SSE42", "AVX2", "FMA3"}


@pytest.fixture
def processor(monkeypatch):
    """Return a function that plays a processor whose OpenBLAS has some kernels."""
    monkeypatch.delenv(kernels.CORE, raising=False)

    def play(features, core):
        monkeypatch.setattr(kernels, "_features", lambda: dict.fromkeys(features, True))
        monkeypatch.setattr(kernels, "_kernels", lambda: core)

    return play


@pytest.mark.parametrize(
    ("features", "core", "words"),
    [
        (ZEN5, "haswell", "its vectors have 256 bits, this processor's 512: with OPENBLAS_CORETYPE="
                          "SkylakeX set"),
        (ZEN5, "prescott", "128 bits, this processor's 512: with OPENBLAS_CORETYPE=SkylakeX set"),
        (ZEN3, "nehalem", "128 bits, this processor's 256: with OPENBLAS_CORETYPE=Haswell set"),
        (ZEN5, "skylakex", None),
        (ZEN3, "zen", None),
        ({"SSE42"}, "nehalem", None),
        ({"NEON"}, "neoversen1", None),
        (ZEN5, "", None),
    ],
)  # fmt: skip
def test_a_blas_with_narrower_vectors_than_the_processor(features, core, words, processor):
    processor(features, core)
    found = kernels.narrower_blas()
    assert found is None if words is None else words in found


def test_kernels_that_were_chosen_are_told_with_the_variable(processor, monkeypatch):
    processor(ZEN5, "haswell")
    monkeypatch.setenv(kernels.CORE, "Haswell")
    found = kernels.narrower_blas()
    assert "256 bits, because OPENBLAS_CORETYPE is 'Haswell', this processor's 512" in found


@pytest.mark.parametrize("core", ["haswell", "skylakex"])
def test_info_says_it_once(core, processor):
    processor(ZEN5, core)
    out = run("info").out
    line = f"  NumPy's BLAS: {kernels.narrower_blas()}\n"
    assert out.count("OPENBLAS_CORETYPE=") == out.count(line) == (core == "haswell")


class Lines(list):
    """A report that keeps what it is told."""

    tell = list.append


def test_a_comparison_says_it_unless_it_is_kept_to_some_instructions(processor):
    processor(ZEN5, "haswell")
    setting, lines = report.Setting(threads=1), Lines()
    report.tell_isa(lines, setting)
    report.tell_isa(lines, setting._replace(backend="jax"))
    assert lines == [f"NumPy's BLAS: {kernels.narrower_blas()}"]
    report.tell_isa(lines, setting._replace(isa="sse4.2"))
    assert len(lines) == 2
    assert "CORETYPE=SkylakeX" not in lines[1]
