"""What pages say of each metric: its title, unit and definition. What computes them is in `evaluation/`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from onestep.evaluation.names import Direction, attribute_of, better


@dataclass(frozen=True)
class Definition:
    """What one number of a report means."""

    name: str
    title: str
    kind: Literal["per clip", "per set"]
    unit: str
    definition: str

    @property
    def better(self) -> Direction:
        """Which way the metric improves."""
        return better(self.name)


_DEFINED = (
    Definition(
        "frechet_video_distance",
        "Fréchet video distance",
        "per set",
        "squared spreads of real clips",
        "Fréchet distance between Gaussians fitted to the judge's clip features of the model and of other real test "
        "clips, its bias in the number of clips removed by extrapolation from halves of the sets; 0 is equal.",
    ),
    Definition(
        "kernel_video_distance",
        "Kernel video distance",
        "per set",
        "squared maximum mean discrepancy",
        "Unbiased squared maximum mean discrepancy of the same features under the kernel (x·y/D + 1)³; 0 is equal.",
    ),
    Definition(
        "patch_frechet_distance",
        "Patch Fréchet distance",
        "per set",
        "squared spreads of real patches",
        "The Fréchet distance of early features of patches of 16 x 16 pixels by 3 frames: fine texture, wherever it is.",
    ),
    Definition(
        "attribute_accuracy",
        "Attribute accuracy",
        "per clip",
        "share",
        "Share of the caption's attributes that the judge names from the pixels alone, averaged over clips.",
    ),
    Definition(
        "text_alignment",
        "Text alignment",
        "per clip",
        "cosine",
        "Cosine similarity of caption and frame in a video-text model's space, averaged over the frames of each clip.",
    ),
    Definition(
        "structural_stability",
        "Structural stability",
        "per clip",
        "share",
        "How much of each frame is the frame before it with its blocks moved: 1 minus what is left over, relative to "
        "the clip's contrast; flicker, morphing and frames out of order lower it.",
    ),
    Definition(
        "motion",
        "Motion",
        "per clip",
        "share of full scale",
        "Mean absolute difference of neighbouring frames; to be read beside the row of real clips, above which there "
        "is too much.",
    ),
    Definition(
        "diversity",
        "Diversity",
        "per set",
        "spreads of real clips",
        "Mean distance of the judge's features between any two clips of the set.",
    ),
    Definition(
        "caption_diversity",
        "Diversity within a caption",
        "per set",
        "spreads of real clips",
        "Mean distance of the judge's features between two clips of the same caption.",
    ),
    Definition(
        "mode_coverage",
        "Mode coverage",
        "per set",
        "share",
        "Overlap of the words the judge sees over the whole set with the words the captions ask for, over all prompts: "
        "1 where every colour, shape and so on is as frequent as asked.",
    ),
    Definition(
        "background_grain",
        "Background grain",
        "per clip",
        "grey levels of 255",
        "Mean absolute difference of a pixel from its neighbourhood in the flatter half of each frame; flat is 0.",
    ),
)
DEFINITIONS: dict[str, Definition] = {metric.name: metric for metric in _DEFINED}


def definition_of(name: str) -> Definition:
    """The metric's definition, that of one attribute's accuracy included; raises `KeyError` for an unknown name."""
    attribute = attribute_of(name)
    if attribute is None:
        return DEFINITIONS[name]
    said = f"Share of clips in which the judge names the {attribute} that the caption asks for."
    return Definition(name, f"Accuracy: {attribute}", "per clip", "share", said)


def in_order_of_definition(names: Iterable[str]) -> list[str]:
    """Metrics as pages list them: attributes' accuracies stand after the accuracy of all, by name."""
    order = list(DEFINITIONS)

    def place(name: str) -> tuple[int, str]:
        return order.index("attribute_accuracy" if attribute_of(name) else name), name

    return sorted(set(names), key=place)
