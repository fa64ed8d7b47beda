import pytest

from fedlp_edge.core.start_weights import StartWeightsReport, source_kind


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("weights.pt", "file"),
        ("torchvision-weights.pt", "file"),
        ("run:runs/a", "run"),
        ("torchvision", "torchvision"),
        ("torchvision:IMAGENET1K_V2", "torchvision"),
    ],
)
def test_tells_kinds_of_sources(source: str, kind: str) -> None:
    assert source_kind(source) == kind


def test_says_in_a_line_what_was_taken() -> None:
    report = StartWeightsReport(
        source="a.pt",
        sha256="",
        taken=("conv.weight", "conv.bias"),
        reshaped={"pos": "[1, 5, 2] to [1, 17, 2]"},
        anew={"fc.weight": "other shape", "fc.bias": "other shape", "H1.linear.weight": "not in the file"},
        left_out=("aux.weight",),
        parameters=75,
        of=100,
    )
    assert report.line == (
        "starts from a.pt: 3 of 6 tensors taken (75.0 %), pos reshaped, fc, H1.linear anew, 1 of the file left out"
    )


def test_names_a_few_of_many() -> None:
    anew = {f"H{depth}.linear.weight": "not in the file" for depth in range(1, 7)}
    report = StartWeightsReport(source="a.pt", sha256="", taken=("a",), anew=anew, parameters=1, of=4)
    assert report.line.endswith(
        "1 of 7 tensors taken (25.0 %), H1.linear, H2.linear, H3.linear, H4.linear and 2 more anew"
    )
