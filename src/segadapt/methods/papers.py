"""The publication of each method, and the tests that prove that the implementation agrees with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A publication and its proofs. All paths start at the root of the repository.

    Attributes:
        citation: first author, title, venue and year; a description where nothing was published.
        page: page of the docs with the table *paper | official code | segadapt*, ablations and published numbers.
        golden: tests against golden vectors; the page names the code that made these.
        restated: tests that write the formulas down a second time, independently.
    """

    citation: str
    page: str = ""
    golden: tuple[str, ...] = ()
    restated: tuple[str, ...] = ()

    @property
    def proofs(self) -> dict[str, tuple[str, ...]]:
        """The paths by kind, without empty kinds."""
        kinds = {"page": (self.page,) if self.page else (), "golden": self.golden, "restated": self.restated}
        return {kind: paths for kind, paths in kinds.items() if paths}


BOUNDS = Paper(
    "lower and upper bound",
    golden=("tests/pieces/test_losses.py",),
    restated=("tests/methods/test_supervision.py",),
)
CBST = Paper(
    "Zou et al., Class-Balanced Self-Training, ECCV 2018",
    "docs/methods/cbst.md",
    ("tests/pieces/test_thresholds.py", "tests/pieces/test_pseudo_labels.py", "tests/pieces/test_mining.py"),
    ("tests/methods/test_self_training.py",),
)
CRST = Paper(
    "Zou et al., Confidence Regularized Self-Training, ICCV 2019",
    "docs/methods/cbst.md",
    ("tests/pieces/test_losses.py", "tests/pieces/test_pseudo_labels.py", "tests/models/test_deeplabv2.py"),
    ("tests/methods/test_self_training.py",),
)
ADAPTSEG = Paper(
    "Tsai et al., Learning to Adapt Structured Output Space, CVPR 2018",
    "docs/methods/adaptseg.md",
    (
        "tests/pieces/test_proda_pieces.py",
        "tests/pieces/test_losses.py",
        "tests/engine/test_optim.py",
        "tests/models/test_deeplabv2.py",
        "tests/models/test_discriminator.py",
    ),
    ("tests/methods/test_adaptseg.py",),
)
PRODA = Paper(
    "Zhang et al., Prototypical Pseudo Label Denoising (ProDA), CVPR 2021",
    "docs/methods/proda.md",
    ("tests/pieces/test_proda_pieces.py", "tests/models/test_proda_net.py"),
    ("tests/methods/test_proda.py",),
)
CPSL = Paper(
    "Li et al., Class-Balanced Pixel-Level Self-Labeling (CPSL), CVPR 2022",
    "docs/methods/cpsl.md",
    ("tests/methods/test_cpsl.py", "tests/pieces/test_optimal_transport.py"),
    ("tests/methods/test_cpsl.py",),
)
BCL = Paper(
    "Lee et al., Bi-directional Contrastive Learning (BCL), ECCV 2022",
    "docs/methods/bcl.md",
    ("tests/pieces/test_contrast.py", "tests/models/test_dass_net.py"),
    ("tests/methods/test_bcl.py",),
)
DACS = Paper(
    "Tranheden et al., Domain Adaptation via Cross-domain Mixed Sampling (DACS), WACV 2021",
    "docs/methods/daformer.md",
    ("tests/pieces/test_daformer_pieces.py",),
    ("tests/methods/test_daformer.py",),
)
DAFORMER = Paper(
    "Hoyer et al., DAFormer, CVPR 2022",
    "docs/methods/daformer.md",
    (
        "tests/pieces/test_daformer_pieces.py",
        "tests/data/test_streams.py",
        "tests/methods/test_supervision.py",
        "tests/models/test_mit.py",
        "tests/models/test_daformer_net.py",
    ),
    ("tests/methods/test_daformer.py",),
)
HRDA = Paper(
    "Hoyer et al., Context-Aware High-Resolution Segmentation (HRDA), ECCV 2022",
    "docs/methods/daformer.md",
    (
        "tests/pieces/test_fusion.py",
        "tests/methods/test_supervision.py",
        "tests/models/test_multires.py",
        "tests/models/test_daformer_net.py",
    ),
    ("tests/methods/test_supervision.py",),
)
MIC = Paper(
    "Hoyer et al., Masked Image Consistency (MIC), CVPR 2023",
    "docs/methods/mic.md",
    restated=("tests/methods/test_daformer.py",),
)
MPCL = Paper(
    "Ling et al., Contrastive Learning With Multiple Prototypes (MPCL), IEEE",
    "docs/methods/mpcl.md",
    ("tests/pieces/test_multi_prototypes.py",),
    ("tests/methods/test_mpcl.py",),
)
BEST = Paper(
    "The authors of segadapt, 2026",
    "docs/methods/best.md",
    restated=("tests/methods/test_best.py",),
)
